"""Evaluation: accuracy, recall and confusion of a network on a data set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manet.vision.preprocess import Preprocessing
from training.data.datasets.expression_set import ExpressionSet
from training.data.transforms import Reader, Samples, in_order
from training.eval.temperature import cross_entropy

Classify = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""From uint8 images (N, S, S, 3) to fused logits (N, classes); ``manet.backends.base.Backend.infer`` is one."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of an evaluation, rates in percent.

    Attributes:
        n: number of images.
        accuracy: share of correct predictions.
        macro_recall: mean of the per-class recalls over the classes that occur.
        per_class: class name to its recall and count.
        confusion: (classes, classes) counts, rows the labels, columns the predictions.
        cross_entropy: mean negative log-likelihood of the labels under the softmax of the fused logits, in nats.
    """

    n: int
    accuracy: float
    macro_recall: float
    per_class: dict[str, dict[str, float | int]]
    confusion: npt.NDArray[np.int64]
    cross_entropy: float

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON types, rounded."""
        return {
            "n": self.n,
            "accuracy": round(self.accuracy, 3),
            "macro_recall": round(self.macro_recall, 3),
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
            "cross_entropy": round(self.cross_entropy, 5),
        }


def score(data: ExpressionSet, logits: npt.NDArray[np.float32]) -> Evaluation:
    """Return the evaluation of fused logits (N, classes), one row for each of the set's images, in order."""
    labels, classes = data.labels, len(data.classes)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    counts = confusion.sum(axis=1)
    recall = 100 * confusion.diagonal() / np.maximum(counts, 1)
    per_class: dict[str, dict[str, float | int]] = {
        str(name): {"recall": round(float(r), 3), "n": int(n)}
        for name, r, n in zip(data.classes, recall, counts, strict=True)
    }
    return Evaluation(
        n=len(data),
        accuracy=100 * float(confusion.diagonal().sum()) / len(data),
        macro_recall=float(recall[counts > 0].mean()),
        per_class=per_class,
        confusion=confusion,
        cross_entropy=cross_entropy(logits, labels),
    )


def predict(
    data: ExpressionSet, spec: Preprocessing, classify: Classify, *, batch_size: int = 128, workers: int = 0
) -> npt.NDArray[np.float32]:
    """Return the fused logits (N, classes) of every image of a set, with the preprocessing of the service.

    Args:
        data: the images.
        spec: the weights' preprocessing.
        classify: runs the network.
        batch_size: images per call.
        workers: worker processes that read images; 0 reads between calls.
    """
    reader = Reader(Samples(data, spec), device=torch.device("cpu"), workers=workers, max_cached_bytes=0)
    batches = reader.read(in_order(len(data), batch_size))
    return np.concatenate([classify(_as_images(inputs)) for inputs, _ in batches])


def _as_images(inputs: Tensor) -> npt.NDArray[np.uint8]:
    """Return inputs (N, C, S, S) as RGB images (N, S, S, 3)."""
    images: npt.NDArray[np.uint8] = inputs.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
    return images
