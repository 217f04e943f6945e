"""Measurement: the evaluation of weights on a data set, through the backend that serves them."""

from typing import Any

from manet.backends.base import Backend
from manet.weights.entry import Weights
from training.data.datasets.expression_set import ExpressionSet
from training.errors import TrainingError
from training.eval.evaluate import predict, score
from training.eval.temperature import expected_calibration_error


class MeasureError(TrainingError):
    """Weights cannot be evaluated on a data set because their classes differ."""


def require_same_classes(data: ExpressionSet, weights: Weights) -> None:
    """Make sure that weights can be evaluated on a data set.

    Raises:
        MeasureError: if they have different classes.
    """
    if weights.classes != data.classes:
        theirs, ours = ", ".join(weights.classes), ", ".join(data.classes)
        raise MeasureError(f"weights {weights.id!r} have the classes {theirs}; {data.name} has {ours}")


def measure(data: ExpressionSet, weights: Weights, backend: Backend) -> dict[str, Any]:
    """Return the evaluation of weights on a data set as JSON types, with everything that its numbers depend on.

    Args:
        data: images of the weights' classes.
        weights: the weights to evaluate.
        backend: runs them.
    """
    logits = predict(data, weights.preprocessing, backend.infer)
    evaluation = score(data, logits)
    return {
        "dataset": data.name,
        "split": data.split,
        "protocol": data.protocol,
        **evaluation.as_dict(),
        "temperature": weights.temperature,
        "calibration_error": round(expected_calibration_error(logits, data.labels, weights.temperature), 3),
        "calibration_error_uncalibrated": round(expected_calibration_error(logits, data.labels), 3),
        "weights": {"id": weights.id, "sha256": weights.sha256},
        "backend": {"name": backend.name, "precision": backend.precision, "device": backend.device},
    }
