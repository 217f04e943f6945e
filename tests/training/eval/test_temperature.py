"""Temperature and calibration error, where the right answers are known."""

import numpy as np
import pytest
from scipy.special import softmax

from training.eval.temperature import cross_entropy, expected_calibration_error, fit_temperature


@pytest.fixture
def calibrated() -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is, by construction, the distribution that the labels are drawn from."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (100000, 4)).astype(np.float32)
    draws = generator.random((len(logits), 1))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < draws).sum(axis=1).clip(0, 3)
    return logits, labels


def test_calibrated_logits_need_no_temperature(calibrated: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = calibrated

    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.03)
    assert expected_calibration_error(logits, labels) < 1


@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_the_temperature_undoes_a_scaling(calibrated: tuple[np.ndarray, np.ndarray], factor: float) -> None:
    logits, labels = calibrated
    scaled = logits * np.float32(factor)

    temperature = fit_temperature(scaled, labels)

    assert temperature == pytest.approx(factor, rel=0.03)
    assert expected_calibration_error(scaled, labels) > 5
    assert expected_calibration_error(scaled, labels, temperature) < 1
    assert cross_entropy(scaled, labels, temperature) < cross_entropy(scaled, labels)


def test_error_by_hand() -> None:
    logits = np.log(np.array([[0.9, 0.1]] * 10, dtype=np.float32))
    labels = np.array([0] * 6 + [1] * 4)

    assert expected_calibration_error(logits, labels) == pytest.approx(30, abs=1e-4)
