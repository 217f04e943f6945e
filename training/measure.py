"""Measurement: what weights score on a data set, from the very file and through the very engine that serve them."""

from typing import Any

from manet.backends import Backend
from manet.weights import Weights
from training import evaluate
from training.calibration import expected_calibration_error
from training.datasets.expression_set import ExpressionSet


def measure(data: ExpressionSet, weights: Weights, backend: Backend) -> dict[str, Any]:
    """Return the evaluation of weights on a data set as JSON types, with everything that its figures depend on.

    Raises:
        ValueError: if the weights and the data set have different classes.
    """
    if weights.classes != data.classes:
        raise ValueError(f"weights {weights.id!r} tell {len(weights.classes)} other classes apart than {data.name}")
    logits = evaluate.run(data, weights.preprocessing, backend.infer)
    found = evaluate.score(data, logits)
    return {
        "dataset": data.name,
        "split": data.split,
        "protocol": data.protocol,
        **found.as_dict(),
        "temperature": weights.temperature,
        "calibration_error": round(expected_calibration_error(logits, data.labels, weights.temperature), 3),
        "calibration_error_uncalibrated": round(expected_calibration_error(logits, data.labels), 3),
        "weights": {"id": weights.id, "sha256": weights.sha256},
        "backend": {"name": backend.name, "precision": backend.precision, "device": backend.device},
    }
