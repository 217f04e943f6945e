"""Fixtures: small data sets in their owners' layouts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from testing.data_sets import AFFECTNET_COLUMNS, draw_ferplus, draw_ferplus_tree, draw_image, write_table


@pytest.fixture
def draw() -> Callable[[Path, list[tuple[str, str, list[int]]]], Path]:
    """The drawing function itself, for tests that bring their own rows."""
    return draw_ferplus


@pytest.fixture
def ferplus_tree(tmp_path: Path) -> Path:
    """Twelve training and six validation images of neutral, happiness and anger."""
    return draw_ferplus_tree(tmp_path)


@pytest.fixture
def raf_db(tmp_path: Path) -> Path:
    """Two training images and one test image, in the owners' list and folder."""
    root = tmp_path / "RAF-DB"
    lines = ["train_00001.jpg 5", "train_00002.jpg 1", "test_0001.jpg 7"]
    for line in lines:
        draw_image(root / f"basic/Image/aligned/{line.partition('.')[0]}_aligned.jpg", grey=40 * int(line[-1]))
    (root / "basic/EmoLabel").mkdir()
    (root / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def affectnet_csv(tmp_path: Path) -> Path:
    """Photographs of which one corner is the face: anger, contempt, and one that counts for nothing."""
    rows = [[f"1/{i}.jpg", 4, 6, 10, 12, "", expression, 0, 0] for i, expression in enumerate((6, 7, 8))]
    write_table(tmp_path / "training.csv", AFFECTNET_COLUMNS, rows)
    for i in range(3):
        photo = Image.new("RGB", (40, 40), "black")
        photo.paste("white", (4, 6, 14, 18))
        (tmp_path / "Manually_Annotated_Images/1").mkdir(parents=True, exist_ok=True)
        photo.save(tmp_path / f"Manually_Annotated_Images/1/{i}.jpg", quality=95)
    return tmp_path
