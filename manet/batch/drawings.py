"""Drawings: each image with its faces marked, as a file of its own."""

import os
from collections.abc import Sequence
from pathlib import Path

from manet.batch.pipeline import Failure, Outcome
from manet.batch.walk import Found
from manet.drawing import draw_faces
from manet.files import atomic_write
from manet.vision.formats import FORMATS

WRITTEN = tuple(suffix for known in FORMATS if known.written for suffix in known.suffixes)
"""What the name of a single drawing may end with."""


class Drawings:
    """Draws the images; see ``manet.batch.sinks.Sink``.

    A single file is drawn to the file named. Of several, each is drawn to the folder named, as ``STEM.png``; an image
    from a folder keeps its place in it and its whole name, ``below/a.jpg.png``, under the folder's name if others were
    given too.

    Args:
        paths: all that was named, files and folders.
        target: where the drawings go.

    Raises:
        ValueError: if a drawing would have no format, two would have the same name, or one that of an image.
    """

    def __init__(self, paths: Sequence[Path], target: Path) -> None:
        self._target = target
        self._single = len(paths) == 1 and not os.path.isdir(paths[0])
        self._several = len(paths) > 1
        if self._single and target.suffix.lower() not in WRITTEN:
            raise ValueError(f"--draw writes {', '.join(WRITTEN)}; {target} is none of them")
        names = [_name(path) if os.path.isdir(path) else f"{path.stem}.png" for path in paths]
        if len(set(names)) < len(names):
            raise ValueError("two files of the same name would be drawn to one; give them one by one")
        if any(self._overwrites(path) for path in paths):
            raise ValueError(f"the drawings would lie among the images that they are made from: {target}")

    def of(self, file: Found) -> Path:
        """Return where a file is drawn to."""
        if self._single:
            return self._target
        if file.root is None:
            return self._target / f"{file.path.stem}.png"
        below = file.path.relative_to(file.root)
        folder = self._target / _name(file.root) if self._several else self._target
        return folder / below.with_name(f"{below.name}.png")

    def _overwrites(self, path: Path) -> bool:
        place = self._target if os.path.isdir(path) else self.of(Found(path))
        return os.path.abspath(place) == os.path.abspath(path)

    def made(self, path: Path) -> bool:
        """Return whether a path is the target itself, so that drawings are not drawn again."""
        return os.path.abspath(path) == os.path.abspath(self._target)

    def add(self, outcome: Outcome) -> None:
        """Draw an image."""
        if isinstance(outcome, Failure) or outcome.image is None:
            return
        image = draw_faces(outcome.image, outcome.faces)
        atomic_write(self.of(outcome.file), image.save)

    def close(self) -> None:
        """Nothing is left to do: each drawing is whole when it is there."""


def _name(folder: Path) -> str:
    return Path(os.path.abspath(folder)).name
