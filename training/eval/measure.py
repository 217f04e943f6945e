"""Measurement: what weights score on a data set, from the very file and through the very engine that serve them."""

from typing import Any

from manet.backends.base import Backend
from manet.weights.entry import Weights
from training.data.datasets.expression_set import ExpressionSet
from training.errors import TrainingError
from training.eval import evaluate
from training.eval.temperature import expected_calibration_error


class MeasureError(TrainingError):
    """Weights cannot be measured on a data set: their classes differ."""


def need_same_classes(data: ExpressionSet, weights: Weights) -> None:
    """Make sure that weights can be measured on a data set.

    Raises:
        MeasureError: if they have different classes.
    """
    if weights.classes != data.classes:
        theirs, ours = ", ".join(weights.classes), ", ".join(data.classes)
        raise MeasureError(f"weights {weights.id!r} have the classes {theirs}; {data.name} has {ours}")


def measure(data: ExpressionSet, weights: Weights, backend: Backend) -> dict[str, Any]:
    """Return the evaluation of weights on a data set as JSON types, with everything that its figures depend on.

    Args:
        data: images of the weights' classes.
        weights: what is measured.
        backend: runs them.
    """
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
