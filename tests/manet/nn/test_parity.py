"""Parity: every engine, in every number format, against golden logits of the shipped weights, by one table."""

import numpy as np
import pytest

from manet.backends.base import BackendName, Logits, PrecisionName
from manet.backends.factory import load_backend
from manet.backends.selection import Machine
from manet.weights.registry import get
from testing.golden import golden_logits, views

TOLERANCES: dict[tuple[BackendName, PrecisionName], float] = {
    ("torch", "float32"): 1e-4,
    ("torch", "bf16"): 0.01,
    ("openvino", "float32"): 1e-5,
    ("openvino", "bf16"): 0.01,
    ("openvino", "int8"): 0.05,
}
"""How far a logit may be off, as a share of the largest golden one. What int8 costs in accuracy is measured on FER+
Valid (``training/reports/ferplus/valid_int8.json``); here it is held to its number."""


@pytest.fixture(scope="module")
def golden() -> Logits:
    return golden_logits()


@pytest.mark.parametrize(("engine", "precision"), TOLERANCES)
def test_an_engine_gives_the_golden_logits(engine: BackendName, precision: PrecisionName, golden: Logits) -> None:
    if (engine, precision) == ("openvino", "bf16") and not Machine.this().bf16:
        pytest.skip("this processor has no bf16, and OpenVINO does not emulate it")
    if precision == "int8" and Machine.this().saturates:
        pytest.skip("int8 sums overflow in this processor, so int8 is refused")
    backend = load_backend(get("ferplus"), backend=engine, precision=precision, device="cpu")
    images = views()

    found = backend.infer(images)
    alone = np.concatenate([backend.infer(images[k : k + 1]) for k in range(len(images))])

    allowed = TOLERANCES[engine, precision] * np.abs(golden).max()
    assert (backend.name, backend.precision, backend.device) == (engine, precision, "cpu")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, golden, rtol=0, atol=allowed)
    np.testing.assert_allclose(alone, found, rtol=0, atol=min(allowed, 0.01 * np.abs(golden).max()))
    assert (found.argmax(axis=1) == golden.argmax(axis=1)).all()
    backend.close()
    with pytest.raises(RuntimeError, match="closed"):
        backend.infer(images)
