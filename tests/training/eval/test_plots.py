"""A run's image."""

from pathlib import Path

from PIL import Image

from training.eval.plots import draw_curve
from training.eval.published import PublishedRun

COLUMNS = ("train_loss", "valid_cross_entropy", "train_accuracy", "valid_accuracy", "valid_macro_recall")
ROWS = [{"epoch": float(epoch), **dict.fromkeys(COLUMNS, 50.0 + epoch)} for epoch in range(3)]


def test_the_authors_run_is_drawn_beside_ours(tmp_path: Path) -> None:
    draw_curve(ROWS, tmp_path / "alone.png")
    draw_curve(ROWS, tmp_path / "beside.png", PublishedRun("raf_db", (71.0, 77.0, 76.0, 83.0)))

    alone, beside = Image.open(tmp_path / "alone.png"), Image.open(tmp_path / "beside.png")
    assert alone.size == beside.size
    assert alone.tobytes() != beside.tobytes()
