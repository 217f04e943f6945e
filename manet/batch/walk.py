"""Walk: the image files that are named, one by one, and those below the folders among them."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from manet.vision.formats import SUFFIXES


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read, or a folder that could not be listed.

    Attributes:
        path: where it is.
        root: the folder below which it was found; None for a file that was named itself.
        error: why the folder could not be read; None for a file.
    """

    path: Path
    root: Path | None = None
    error: OSError | None = None


HIDDEN, BARE, SPECIAL = "hidden", "without a suffix", "no regular file"
"""Kinds of what is passed over beside the suffixes of names."""


def walk(
    paths: Iterable[Path], *, leave_out: Callable[[Path], bool], passed_over: Counter[str] | None = None
) -> Iterator[Found]:
    """Yield the files in the order in which they are named; in a folder by name, its own files before its folders.

    In a folder, what is hidden (its name begins with a dot) and what is no image by its name, in any case of letters,
    is passed over; a file named by itself is always read. Links are followed, but no folder is entered twice, so a
    loop of links ends. No more than one folder's names are held.

    Args:
        paths: files and folders; a path that does not exist is yielded and fails where it is read.
        leave_out: whether a path below a folder is none of the input, such as a drawing made from it.
        passed_over: counts what is passed over by its kind: a suffix in small letters, or one of the words above.
    """
    entered: set[tuple[int, int]] = set()
    counts = Counter[str]() if passed_over is None else passed_over
    for path in paths:
        if os.path.isdir(path):
            yield from _below(path, entered, leave_out, counts)
        else:
            yield Found(path)


def _below(
    root: Path, entered: set[tuple[int, int]], leave_out: Callable[[Path], bool], passed_over: Counter[str]
) -> Iterator[Found]:
    waiting = [root]  # a stack of our own: a tree may be deeper than Python's
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            names = () if (status.st_dev, status.st_ino) in entered else sorted(os.listdir(folder))
        except OSError as error:
            yield Found(folder, root, error)
            continue
        entered.add((status.st_dev, status.st_ino))
        paths = [folder / name for name in names if not name.startswith(".")]
        passed_over[HIDDEN] += len(names) - len(paths)
        folders: list[Path] = []
        for path in paths:
            if leave_out(path):
                continue
            if os.path.isdir(path):
                folders.append(path)
            elif path.suffix.lower() not in SUFFIXES:
                passed_over[path.suffix.lower() or BARE] += 1
            elif _may_be_read(path):
                yield Found(path, root)
            else:
                passed_over[SPECIAL] += 1
        waiting += reversed(folders)


def _may_be_read(path: Path) -> bool:
    """Return whether it is a regular file, or a link that leads nowhere; reading a pipe might never end."""
    return os.path.isfile(path) or not os.path.exists(path)
