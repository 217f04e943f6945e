"""Layout: finding a data set's files under the folder that a person names."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from manet.labels import expression_named
from training.datasets.expression_set import DatasetError

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def root_with(data: Path, *marks: str) -> tuple[Path, str] | None:
    """Return the folder that holds one of the marks (paths relative to it) and that mark, or None.

    It is ``data`` itself, or the first folder in it by name that fits: archives unpack to either.
    """
    if not data.is_dir():
        raise DatasetError(f"{data} is no folder")
    for folder in (data, *sorted(entry for entry in data.iterdir() if entry.is_dir())):
        for mark in marks:
            if (folder / mark).exists():
                return folder, mark
    return None


def need_root(data: Path, name: str, *marks: str) -> tuple[Path, str]:
    """Return what ``root_with`` finds.

    Raises:
        DatasetError: if it finds nothing; the message says what a folder of this data set holds.
    """
    found = root_with(data, *marks)
    if found is None:
        raise DatasetError(f"{data} holds no {name}: looked for {' or '.join(marks)}, there and one folder down")
    return found


def rows(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Yield a CSV's rows.

    Raises:
        DatasetError: if the file is missing or lacks a column.
    """
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            absent = set(columns) - set(reader.fieldnames or ())
            if absent:
                raise DatasetError(f"{path} lacks the columns {', '.join(sorted(absent))}")
            yield from reader
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder, by suffix, in the order of their names."""
    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in PICTURES)


def by_class(folder: Path, numbered: Mapping[str, str] | None = None) -> list[tuple[Path, str]]:
    """Return (picture, expression) for a folder that holds one folder for each class.

    Args:
        folder: as said.
        numbered: what the folders' names mean where they are no words.

    Raises:
        DatasetError: if the folder is missing, or one in it names no expression.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing")
    found: list[tuple[Path, str]] = []
    for entry in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        try:
            expression = numbered[entry.name] if numbered else expression_named(entry.name)
        except (KeyError, ValueError):
            raise DatasetError(f"{entry} names no expression") from None
        found.extend((path, expression) for path in pictures_in(entry))
    return found
