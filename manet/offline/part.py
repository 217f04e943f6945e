"""Part: some hundred images that are answered together, and whose answers are one Parquet file.

Two steps, which may run in two processes: ``find`` reads the images and finds their faces; ``answer`` runs the
network and writes the file. The file is in its place whole or not at all: a part is done when its file is there, and
a part that is answered twice leaves the same file.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from manet.batch.arrow import schema
from manet.batch.pipeline import DetectedImage, DetectionOptions, Failure, detect_in, outcomes, reason
from manet.batch.records import columns, flat
from manet.batch.walk import Found
from manet.files import atomic_write
from manet.offline.attempt import Attempt
from manet.offline.plan import ImageFiles, Job, Part, TableRows
from manet.recognizer import Recognizer
from manet.vision.images import ImageLimits, image_bytes

_READ = 16
"""Rows of a Parquet file in memory at once, images and all."""


@dataclass(frozen=True, slots=True)
class PartImage:
    """An image whose faces wait for the network, or that could not be read.

    Attributes:
        name: what it is called where that is not the file's path.
        what: what was seen in it, without the image itself.
    """

    name: str | None
    what: DetectedImage | Failure


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """What a part's file holds.

    Attributes:
        number: of the part.
        images: that were answered or could not be read.
        unread: those that could not be read.
        faces: that were found.
    """

    number: int
    images: int
    unread: int
    faces: int


def place(folder: Path, number: int) -> Path:
    """Return where a part's answers are."""
    return folder / f"part-{number:09d}.parquet"


def find(part: Part, job: Job, recognizer: Recognizer, limits: ImageLimits, attempt: Attempt) -> list[PartImage]:
    """Return what every image of a part shows, in order; only the faces are held, not the images."""
    options = DetectionOptions(faces=job.faces, max_faces=job.max_faces, keep_image=False, limits=limits)
    seen: list[PartImage] = []
    for number, one in enumerate(_read(part, job, limits)):
        if not attempt.begins(number):
            what: DetectedImage | Failure = Failure(one.file, "the image ends the process that reads it")
        elif isinstance(one.data, Failure):
            what = one.data
        else:
            what = detect_in(one.file, one.data, recognizer, options)
        seen.append(PartImage(one.name, what))
    attempt.ended()
    return seen


def answer(number: int, seen: Sequence[PartImage], recognizer: Recognizer, folder: Path) -> FinishedPart:
    """Run the network on a part's faces and write its file: one row a face, or an image without any.

    Raises:
        OSError: if the file cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for one, outcome in zip(seen, outcomes([one.what for one in seen], recognizer), strict=True):
        name = {} if one.name is None else {"file": one.name}
        rows += [{**row, **name} for row in flat(outcome, recognizer.weights.id)]
    table = pyarrow.Table.from_pylist(rows, schema=schema(columns(recognizer.weights.classes)))
    atomic_write(place(folder, number), lambda path: parquet.write_table(table, path, compression="zstd"))
    unread = sum(isinstance(one.what, Failure) for one in seen)
    faces = sum(len(one.what.faces) for one in seen if isinstance(one.what, DetectedImage))
    return FinishedPart(number, len(seen), unread, faces)


@dataclass(frozen=True, slots=True)
class _Given:
    """An image's file in memory, or why there is none."""

    file: Found
    name: str | None
    data: bytes | Failure


def _read(part: Part, job: Job, limits: ImageLimits) -> Iterator[_Given]:
    if isinstance(part, TableRows):
        return _read_rows(part, job)
    return _read_files(part, limits)


def _read_files(part: ImageFiles, limits: ImageLimits) -> Iterator[_Given]:
    for path in part.paths:
        found = Found(path)
        try:
            data: bytes | Failure = image_bytes(path, limits)
        except OSError as error:
            data = Failure(found, reason(error))
        yield _Given(found, None, data)


def _read_rows(part: TableRows, job: Job) -> Iterator[_Given]:
    """Yield a part's rows; those behind a place where the file is damaged cannot be read, and are yielded, too."""
    row, last = part.row, part.row + part.count
    try:
        for image, name in islice(_values(part, job), part.first, part.first + part.count):
            data = image.get("bytes") if isinstance(image, dict) else image
            found = _numbered(part, row)
            sound = data if isinstance(data, bytes) else Failure(found, "the row holds no image")
            yield _Given(found, None if name is None else str(name), sound)
            row += 1
    except (OSError, pyarrow.ArrowException):
        for missing in range(row, last):
            found = _numbered(part, missing)
            yield _Given(found, None, Failure(found, "the Parquet file is damaged or gone"))


def _values(part: TableRows, job: Job) -> Iterator[tuple[Any, Any]]:
    names = [job.column] if job.name_column is None else [job.column, job.name_column]
    with parquet.ParquetFile(part.table) as file:
        for batch in file.iter_batches(_READ, row_groups=[part.group], columns=names):
            images = batch.column(job.column).to_pylist()
            given = [None] * len(images) if job.name_column is None else batch.column(job.name_column).to_pylist()
            yield from zip(images, given, strict=True)


def _numbered(part: TableRows, row: int) -> Found:
    return Found(Path(f"{os.fspath(part.table)}#{row}"))
