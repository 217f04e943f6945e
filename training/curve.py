"""Curve: a run's losses and accuracies over its epochs, as an image."""

from pathlib import Path

from matplotlib.figure import Figure

from training.published import PublishedRun


def draw_curve(rows: list[dict[str, float]], path: Path, published: PublishedRun | None = None) -> None:
    """Draw loss and accuracy over the epochs, and the authors' accuracy so far where they published a run."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
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
