"""Attempt: which image ends the process that reads it, and whether any process outlives a part: recorded in notes.

A decoder that crashes, or a kernel that ends a process for its memory, takes the whole part along. The part is begun
again, now with a note before each image; an image that was the last one noted in two attempts of the same run is
left out, and has an error like any other bad image. Ray begins a part again without end, so an end is set here: a
part whose processes ended too often without an image to blame is given up.
"""

from collections import Counter
from pathlib import Path

from manet.errors import OfflineRunError

_DEATHS = 2
"""Once may be a machine that went away."""

MOST_BEGUN = 4
"""Attempts that may end without an image to blame."""


class Attempt:
    """One attempt at a part.

    Args:
        path: of the notes; kept until the part has been dealt with.
        run: what tells runs apart: who ends a whole run says nothing of its images.

    Raises:
        OfflineRunError: if ``MOST_BEGUN`` attempts of this run ended, and it was not for an image.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        earlier = _earlier(path, run)
        if sum(not notes for notes in earlier) >= MOST_BEGUN:
            raise OfflineRunError(f"the process ended {MOST_BEGUN} times over one part: out of memory, or it crashed")
        self._careful = bool(earlier)
        deaths = Counter(notes[-1] for notes in earlier if notes)
        self._left_out = {number for number, count in deaths.items() if count >= _DEATHS}
        if not earlier:
            path.write_text(f"{run}\n")
        self._note("begun")

    def begins(self, number: int) -> bool:
        """Return whether an image, by its number in the part, is to be read; it is noted."""
        if number in self._left_out:
            return False
        if self._careful:
            self._note(str(number))
        return True

    def ended(self) -> None:
        """Forget the notes: nothing of the part can end this process any more."""
        self._path.unlink(missing_ok=True)

    def _note(self, line: str) -> None:
        with self._path.open("a") as notes:
            notes.write(f"{line}\n")


def _earlier(path: Path, run: str) -> list[list[int]]:
    """Return what each earlier attempt of this run noted."""
    if not path.exists():
        return []
    first, *lines = path.read_text().splitlines() or [""]
    if first != run:
        return []
    attempts: list[list[int]] = []
    for line in lines:
        if line == "begun":
            attempts.append([])
        else:
            attempts[-1].append(int(line))
    return attempts
