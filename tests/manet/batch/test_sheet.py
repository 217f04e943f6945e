"""Contact sheets: a tile for each face, page by page."""

from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from manet.batch.pipeline import Answer, Failure
from manet.batch.sheet import COLUMNS, ROWS, SIDE, ContactSheet
from manet.batch.walk import Found
from manet.labels import Expression
from manet.recognizer import RecognizedFace
from manet.vision.faces import Box, DetectedFace, Landmarks, Point

SHARES = MappingProxyType({Expression.HAPPINESS: 0.9, Expression.ANGER: 0.1})


def _image(*boxes: Box | None, colour: tuple[int, int, int] = (200, 0, 0)) -> Answer:
    image = np.zeros((60, 120, 3), np.uint8)
    faces = []
    for box in boxes:
        if box is not None:
            image[int(box.y) : int(box.y + box.height), int(box.x) : int(box.x + box.width)] = colour
        where = None if box is None else DetectedFace(box, 0.9, Landmarks(*[Point(0, 0)] * 5))
        faces.append(RecognizedFace(where, SHARES))
    return Answer(120, 60, faces, len(faces), Found(Path("a/very/long-" + "name-" * 30 + "end.png")), image)


def test_each_face_has_a_tile_with_its_pixels_in_the_middle(tmp_path: Path) -> None:
    sheet = ContactSheet(tmp_path / "new/sheet.png")
    sheet.add(_image(Box(10, 10, 30, 40), Box(70, 5, 30, 40)))
    sheet.add(_image())
    sheet.add(Failure(Found(Path("bad.png")), "broken"))
    sheet.close()

    with Image.open(tmp_path / "new/sheet.png") as page:
        pixels = np.asarray(page.convert("RGB")).astype(int)
    step = SIDE + 8
    assert pixels.shape[1] == 3 * step + 8
    middles = [pixels[8 + SIDE // 2, 8 + SIDE // 2 + number * step] for number in range(3)]
    assert np.allclose(middles[:2], (200, 0, 0), atol=2)
    assert np.allclose(middles[2], (0, 0, 0))
    captions = [pixels[8 + SIDE : 8 + SIDE + 36, 8 + number * step : 8 + number * step + SIDE] for number in range(3)]
    assert all((caption < 150).any() for caption in captions)
    gaps = pixels[8 + SIDE : 8 + SIDE + 36, step + 1 : step + 7]
    assert (gaps > 200).all(), "a caption runs into the next tile"


def test_full_pages_are_written_at_once_and_the_last_is_as_long_as_it_must(tmp_path: Path) -> None:
    sheet = ContactSheet(tmp_path / "sheet.png")
    for _ in range(COLUMNS * ROWS):
        sheet.add(_image(None))
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    sheet.add(_image(None))
    sheet.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet-2.png", "sheet.png"]
    with Image.open(tmp_path / "sheet.png") as first, Image.open(tmp_path / "sheet-2.png") as second:
        assert first.width > second.width
        assert first.height > second.height


def test_it_knows_its_pages(tmp_path: Path) -> None:
    sheet = ContactSheet(tmp_path / "my-sheet.png")

    made = {
        name: sheet.made(tmp_path / name) for name in ("my-sheet.png", "my-sheet-2.png", "my.png", "my-sheet-b.png")
    }

    assert made == {"my-sheet.png": True, "my-sheet-2.png": True, "my.png": False, "my-sheet-b.png": False}
    assert not sheet.made(tmp_path / "below/my-sheet.png")


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"written as \.png"):
        ContactSheet(tmp_path / "sheet.jpg")
