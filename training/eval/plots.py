"""Plots: a confusion matrix, and a run's losses and accuracies over its epochs, as images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from training.eval.published import PublishedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 32
"""A matrix with more classes is not readable."""


def draw_confusion(confusion: npt.NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """Draw counts (classes, classes), rows the labels, columns the predictions, each row in percent of its sum."""
    counts = confusion.sum(axis=1)
    shares = 100 * confusion / np.maximum(counts, 1)[:, None]
    side = 2.0 + 0.7 * len(classes)
    figure = _figure(side, side * 0.9)
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(*shares.shape):
        shade = "white" if shares[row, column] > 50 else "black"  # noqa: PLR2004
        axis.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=shade)
    names = [str(name) for name in classes]
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), [f"{name} ({count})" for name, count in zip(names, counts, strict=True)])
    axis.set(xlabel="prediction", ylabel="label (images)", title="percent of each label's images")
    figure.savefig(path)


def draw_curve(rows: list[dict[str, float]], path: Path, published: PublishedRun | None = None) -> None:
    """Draw loss and accuracy over the epochs, beside the authors' accuracy where they published a run."""
    figure = _figure(9, 3.6)
    losses, rates = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for axis, columns, title in (
        (losses, ("train_loss", "valid_cross_entropy"), "loss and cross-entropy (nats)"),
        (rates, ("train_accuracy", "valid_accuracy", "valid_macro_recall"), "percent"),
    ):
        for column in columns:
            axis.plot(epochs, [row[column] for row in rows], marker=".", label=column.replace("_", " "))
        if axis is rates and published is not None:
            theirs = published.accuracies[: int(epochs[-1]) + 1]
            axis.plot(range(len(theirs)), theirs, linestyle="--", color="grey", label="authors, test accuracy")
        axis.set(xlabel="epoch", title=title)
        axis.legend()
        axis.grid(alpha=0.3)
    figure.savefig(path)


def _figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - most commands draw nothing

    return Figure(figsize=(width, height), layout="constrained")
