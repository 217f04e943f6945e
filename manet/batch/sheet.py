"""Contact sheet: every face small, side by side, with its expression below; for a look at many images at once."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from manet.batch.pipeline import Answer, Failure, Outcome
from manet.batch.records import name_of
from manet.batch.terminal import printable
from manet.files import atomic_write
from manet.recognizer import RecognizedFace
from manet.vision.faces import Box, cut
from manet.vision.preprocess import Pixels

COLUMNS, ROWS = 8, 10
"""Tiles of a full page."""

SIDE = 144
"""Of a tile's image, in pixels."""

_GAP, _LINE, _LETTERS = 8, 18, 13
_MARGIN = 1.4
"""A tile shows this much more than the face's box, as its longer side."""
_PAPER, _INK, _FAINT = (250, 250, 250), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True, slots=True)
class _Tile:
    """A small image and the two lines below it."""

    pixels: Pixels
    expression: str
    name: str


class ContactSheet:
    """Writes pages of ``COLUMNS`` x ``ROWS`` tiles as they fill, so that no more than one is held.

    The first page is the file named; the others are ``NAME-2.png`` and so on. An image without a face has a tile,
    too. See ``manet.batch.sinks.Sink``.

    Args:
        path: a PNG.

    Raises:
        ValueError: if the name does not end in ``.png``.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".png":
            raise ValueError(f"a contact sheet is written as .png; {path} is none")
        self._path = path
        self._tiles: list[_Tile] = []
        self._pages = 0

    @property
    def pages(self) -> int:
        """Pages that were written."""
        return self._pages

    def made(self, path: Path) -> bool:
        """Return whether a path is one of the sheet's pages, from this run or an earlier one."""
        first, _, number = path.stem.rpartition("-")
        stem = first if number.isdecimal() and path.stem != self._path.stem else path.stem
        page = path.with_stem(stem) if stem else path
        return os.path.abspath(page) == os.path.abspath(self._path)

    def add(self, outcome: Outcome) -> None:
        """Take an image's faces."""
        if isinstance(outcome, Failure) or outcome.image is None:
            return
        name = printable(Path(name_of(outcome)).name)
        for tile in _tiles(outcome, outcome.image, name):
            self._tiles.append(tile)
            if len(self._tiles) == COLUMNS * ROWS:
                self._write()

    def close(self) -> None:
        """Write the last page."""
        if self._tiles:
            self._write()

    def _write(self) -> None:
        self._pages += 1
        page, self._tiles = _page(self._tiles), []
        path = self._path if self._pages == 1 else self._path.with_stem(f"{self._path.stem}-{self._pages}")
        atomic_write(path, page.save)


def _tiles(answer: Answer, image: Pixels, name: str) -> list[_Tile]:
    if not answer.faces:
        return [_Tile(_whole(image), "no face", name)]
    return [_Tile(_shown(face, image), f"{face.expression} {face.confidence:.0%}", name) for face in answer.faces]


def _shown(face: RecognizedFace, image: Pixels) -> Pixels:
    if face.face is None:
        return _whole(image)
    box = face.face.box
    extent = _MARGIN * max(box.width, box.height)
    x, y = box.x + (box.width - extent) / 2, box.y + (box.height - extent) / 2
    return cut(image, Box(x, y, extent, extent), SIDE)


def _whole(image: Pixels) -> Pixels:
    thumbnail = Image.fromarray(image)
    thumbnail.thumbnail((SIDE, SIDE))
    return np.asarray(thumbnail)


def _page(tiles: list[_Tile]) -> Image.Image:
    columns, rows = min(COLUMNS, len(tiles)), -(-len(tiles) // COLUMNS)
    across, down = SIDE + _GAP, SIDE + 2 * _LINE + _GAP
    page = Image.new("RGB", (columns * across + _GAP, rows * down + _GAP), _PAPER)
    canvas = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=_LETTERS)
    for number, tile in enumerate(tiles):
        x, y = _GAP + number % COLUMNS * across, _GAP + number // COLUMNS * down
        height, width = tile.pixels.shape[:2]
        page.paste(Image.fromarray(tile.pixels), (x + (SIDE - width) // 2, y + (SIDE - height) // 2))
        canvas.text((x, y + SIDE + 1), tile.expression, fill=_INK, font=font)
        canvas.text((x, y + SIDE + _LINE), _fitted(tile.name, canvas, font), fill=_FAINT, font=font)
    return page


def _fitted(name: str, canvas: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return a name, or both its ends where it is wider than a tile."""
    kept, shown = min(len(name), SIDE // 4), name
    while canvas.textlength(shown, font=font) > SIDE and kept > 1:
        shown = f"{name[: kept // 2]}...{name[-(kept - kept // 2) :]}"
        kept -= 1
    return shown
