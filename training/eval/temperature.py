"""Temperature scaling: the gap between confidence and accuracy, and the temperature that closes it.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax

BINS = 15
"""Confidence bins of equal width, as in Guo et al."""

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def cross_entropy(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of labels (N,) under logits (N, classes), in nats."""
    log_probabilities = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return -float(log_probabilities[np.arange(len(labels)), labels].mean())


def expected_calibration_error(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the expected calibration error over 15 bins, in percent: 0 is perfect."""
    probabilities = softmax(logits.astype(np.float64) / temperature, axis=1)  # (N, classes)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.abs(np.bincount(bins, confidence, BINS) - np.bincount(bins, correct, BINS))
    return 100 * float(gaps.sum()) / len(labels)


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """Return the temperature in 0.05..20 that minimises the cross-entropy; predictions do not change."""
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - a second that most commands do not spend

    found = minimize_scalar(
        lambda log_t: cross_entropy(logits, labels, float(np.exp(log_t))), bounds=np.log([0.05, 20.0]), method="bounded"
    )
    return float(np.exp(found.x))
