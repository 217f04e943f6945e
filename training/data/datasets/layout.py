"""Layout: finding a data set's files under a given folder."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from manet.labels import expression_named
from manet.vision.formats import ONE_OF_THE_FORMATS, SUFFIXES
from training.data.datasets.expression_set import DatasetError
from training.files import ENCODING, NOT_UTF8

IMAGES = frozenset(SUFFIXES)
"""Suffixes of the images that are read: those of the service."""


def find_root(data: Path, *markers: str) -> tuple[Path, str] | None:
    """Return the folder that contains one of the markers (paths relative to it) and that marker, or None.

    It is ``data`` itself, or the first folder in it by name that contains one: archives unpack to either.
    """
    if not data.is_dir():
        raise DatasetError(f"{data} is not a folder")
    for folder in (data, *folders_in(data)):
        for marker in markers:
            if (folder / marker).exists():
                return folder, marker
    return None


def require_root(data: Path, name: str, *markers: str) -> tuple[Path, str]:
    """Return what ``find_root`` finds.

    Raises:
        DatasetError: if there is none; the message names the markers of this data set.
    """
    found = find_root(data, *markers)
    if found is None:
        raise DatasetError(f"{data} contains no {name}: expected {' or '.join(markers)}, in it and in its folders")
    return found


def rows(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Yield the given columns of a CSV's rows, without blanks around the values.

    Raises:
        DatasetError: if the file is missing, not UTF-8 or not CSV, or lacks a column, or a row lacks a field.
    """
    try:
        with path.open(newline="", encoding=ENCODING) as file:
            reader = csv.DictReader(file)
            # Some copies of FER2013's table have a blank before each name or value.
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            missing = set(columns) - set(reader.fieldnames)
            if missing:
                raise DatasetError(f"{path} lacks the columns {', '.join(sorted(missing))}")
            for row in reader:
                if any(row[column] is None for column in columns):
                    raise DatasetError(f"{path}, line {reader.line_num}: fewer fields than columns")
                yield {column: row[column].strip() for column in columns}
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} {NOT_UTF8}") from error
    except csv.Error as error:
        raise DatasetError(f"{path} is not a CSV: {error}") from error


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder by name, without hidden ones and those that macOS puts into archives."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_foreign(entry))


def images_in(folder: Path) -> list[Path]:
    """Return the images of one class or person, by suffix, in the order of their names; hidden files are ignored.

    Raises:
        DatasetError: if there are none, or folders in it, whose images would be ignored.
    """
    inner = folders_in(folder)
    if inner:
        raise DatasetError(
            f"{folder} contains {len(inner)} folders, the first {inner[0].name}; images must be directly in it"
        )
    images = [entry for entry in folder.iterdir() if entry.suffix.lower() in IMAGES and not _is_foreign(entry)]
    if not images:
        raise DatasetError(f"{folder} contains no image that is read; expected {ONE_OF_THE_FORMATS} by their suffixes")
    return sorted(images)


def not_read_remark(folder: Path) -> str | None:
    """Return how many files of a folder with one folder for each class are not read, by suffix, or None.

    These are all files directly in it, and in its folders those that are no images by their suffix; hidden files are
    not counted.
    """
    direct = _suffixes(folder)
    inner = sum((_suffixes(entry) for entry in folders_in(folder)), Counter[str]())
    inner = Counter({suffix: count for suffix, count in inner.items() if suffix not in IMAGES})
    places = [
        f"{place} " + ", ".join(f"{suffix or 'without suffix'} {count}" for suffix, count in sorted(found.items()))
        for place, found in (("directly in it", direct), ("in its folders", inner))
        if found
    ]
    count = direct.total() + inner.total()
    return f"{folder}: {count} files are not read: {'; '.join(places)}" if places else None


def _suffixes(folder: Path) -> Counter[str]:
    """Return the number of files in a folder by suffix, without hidden ones."""
    with os.scandir(folder) as entries:  # which knows folders without a call for each of maybe a million files
        files = [Path(entry.name) for entry in entries if not entry.is_dir()]
    return Counter(file.suffix.lower() for file in files if not _is_foreign(file))


def _is_foreign(entry: Path) -> bool:
    """Return whether an entry is not part of the data set, such as macOS's ``._a.jpg`` beside ``a.jpg``."""
    return entry.name.startswith(".") or entry.name == "__MACOSX"


def by_class(folder: Path, numbered: Mapping[str, str] | None = None) -> list[tuple[Path, str]]:
    """Return (image, expression) of a folder with one folder for each class.

    Args:
        folder: the folder.
        numbered: the expression of each folder's name, where the names are numbers.

    Raises:
        DatasetError: if the folder is missing, or one in it is not named after an expression.
    """
    return [(path, expression) for entry, expression in class_folders(folder, numbered) for path in images_in(entry)]


def class_folders(folder: Path, numbered: Mapping[str, str] | None = None) -> list[tuple[Path, str]]:
    """Return (folder, expression) of each class folder, by name; arguments and errors are those of ``by_class``."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing")
    found: list[tuple[Path, str]] = []
    for entry in folders_in(folder):
        try:
            found.append((entry, numbered[entry.name] if numbered else expression_named(entry.name)))
        except (KeyError, ValueError):
            raise DatasetError(f"{entry} is not named after an expression") from None
    return found
