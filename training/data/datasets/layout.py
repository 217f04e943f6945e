"""Layout: finding a data set's files under the folder that a person names."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from manet.labels import expression_named
from training.data.datasets.expression_set import NOT_UTF8, DatasetError

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp"})


def root_with(data: Path, *marks: str) -> tuple[Path, str] | None:
    """Return the folder that holds one of the marks (paths relative to it) and that mark, or None.

    It is ``data`` itself, or the first folder in it by name that fits: archives unpack to either.
    """
    if not data.is_dir():
        raise DatasetError(f"{data} is no folder")
    for folder in (data, *folders_in(data)):
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
        DatasetError: if the file is missing, not in UTF-8 or no CSV, or lacks a column, or a row lacks a field.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            # Some copies of FER2013's table have a blank before each name.
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            absent = set(columns) - set(reader.fieldnames)
            if absent:
                raise DatasetError(f"{path} lacks the columns {', '.join(sorted(absent))}")
            for row in reader:
                if any(row[column] is None for column in columns):
                    raise DatasetError(f"{path}, line {reader.line_num}: fewer fields than columns")
                yield row
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} {NOT_UTF8}") from error
    except csv.Error as error:
        raise DatasetError(f"{path} is no CSV: {error}") from error


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder by name, without hidden ones and those that macOS puts into archives."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_foreign(entry))


def images_in(folder: Path) -> list[Path]:
    """Return the images of one class or person, by suffix, in the order of their names; hidden files are none.

    Raises:
        DatasetError: if there are folders in it, whose images would be missed.
    """
    inner = folders_in(folder)
    if inner:
        raise DatasetError(f"{folder} holds {len(inner)} folders, the first {inner[0].name}; its images must lie in it")
    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in IMAGES and not _is_foreign(entry))


def _is_foreign(entry: Path) -> bool:
    """Return whether an entry is a system's and not the data set's, such as macOS's ``._a.jpg`` beside ``a.jpg``."""
    return entry.name.startswith(".") or entry.name == "__MACOSX"


def by_class(folder: Path, numbered: Mapping[str, str] | None = None) -> list[tuple[Path, str]]:
    """Return (image, expression) for a folder that holds one folder for each class.

    Args:
        folder: as said.
        numbered: what the folders' names mean where they are no words.

    Raises:
        DatasetError: if the folder is missing, or one in it names no expression.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing")
    found: list[tuple[Path, str]] = []
    for entry in folders_in(folder):
        try:
            expression = numbered[entry.name] if numbered else expression_named(entry.name)
        except (KeyError, ValueError):
            raise DatasetError(f"{entry} names no expression") from None
        found.extend((path, expression) for path in images_in(entry))
    return found
