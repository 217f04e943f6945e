"""Part: some hundred pictures that are answered together, and whose answers are one Parquet file.

Two steps, which may run in two processes: ``find`` reads the pictures and finds their faces; ``answer`` runs the
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

from manet.bulk.flow import read_faces
from manet.bulk.pipeline import Answer, Failure, Outcome, reason
from manet.bulk.records import columns, flat
from manet.bulk.walk import Found
from manet.errors import PictureError
from manet.files import write_whole
from manet.labels import Expression
from manet.offline.attempt import Attempt
from manet.offline.plan import Files, Job, Part, Rows
from manet.pictures import PictureLimits, read_picture
from manet.recognizer import FaceInput, Recognizer

_READ = 16
"""Rows of a Parquet file in memory at once, pictures and all."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A picture whose faces wait for the network.

    Attributes:
        file: where it is.
        name: what it is called where that is not the file's path.
        width: of the upright picture, in pixels; ``height`` likewise.
        height: see ``width``.
        inputs: its faces, the largest first.
    """

    file: Found
    name: str | None
    width: int
    height: int
    inputs: list[FaceInput]


@dataclass(frozen=True, slots=True)
class Unread:
    """A picture that could not be read, and why in a few words."""

    file: Found
    name: str | None
    reason: str


Seen = Looked | Unread


@dataclass(frozen=True, slots=True)
class Done:
    """What a part's file holds.

    Attributes:
        number: of the part.
        pictures: that were answered or could not be read.
        unread: those that could not be read.
        faces: that were found.
    """

    number: int
    pictures: int
    unread: int
    faces: int


def place(folder: Path, number: int) -> Path:
    """Return where a part's answers are."""
    return folder / f"part-{number:09d}.parquet"


def find(part: Part, job: Job, recognizer: Recognizer, limits: PictureLimits, attempt: Attempt) -> list[Seen]:
    """Return what every picture of a part shows, in order; only the faces are held, not the pictures."""
    seen: list[Seen] = []
    for number, one in enumerate(_read(part, job, limits)):
        if attempt.begins(number):
            seen.append(_look(one, job, recognizer, limits))
        else:
            seen.append(Unread(one.file, one.name, "the picture ends the process that reads it"))
    attempt.ended()
    return seen


def answer(number: int, seen: Sequence[Seen], recognizer: Recognizer, folder: Path) -> Done:
    """Run the network on a part's faces and write its file: one row a face, or a picture without any.

    Raises:
        OSError: if the file cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for one, outcome in zip(seen, _answered(seen, recognizer), strict=True):
        name = {} if one.name is None else {"file": one.name}
        rows += [{**row, **name} for row in flat(outcome, recognizer.weights.id)]
    table = pyarrow.Table.from_pylist(rows, schema=schema(recognizer.weights.classes))
    write_whole(place(folder, number), lambda path: parquet.write_table(table, path, compression="zstd"))
    unread = sum(isinstance(one, Unread) for one in seen)
    faces = sum(len(one.inputs) for one in seen if isinstance(one, Looked))
    return Done(number, len(seen), unread, faces)


def schema(classes: Sequence[Expression]) -> pyarrow.Schema:
    """Return the columns of the answers, as ``manet.bulk.records.columns`` names them."""
    kinds = {str: pyarrow.string(), int: pyarrow.int32(), float: pyarrow.float64()}
    return pyarrow.schema([(name, kinds[kind]) for name, kind in columns(classes).items()])


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A picture's file in memory; None where there is none, and why."""

    file: Found
    name: str | None
    data: bytes | None
    reason: str = ""


def _look(one: _Bytes, job: Job, recognizer: Recognizer, limits: PictureLimits) -> Seen:
    if one.data is None:
        return Unread(one.file, one.name, one.reason)
    try:
        image = read_picture(one.data, limits=limits)
    except PictureError as error:
        return Unread(one.file, one.name, reason(error))
    height, width = image.shape[:2]
    inputs = recognizer.find(image, faces=job.faces, max_faces=job.max_faces)
    return Looked(one.file, one.name, width, height, inputs)


def _read(part: Part, job: Job, limits: PictureLimits) -> Iterator[_Bytes]:
    if isinstance(part, Rows):
        return _read_rows(part, job)
    return _read_files(part, limits)


def _read_files(part: Files, limits: PictureLimits) -> Iterator[_Bytes]:
    for path in part.paths:
        found = Found(path)
        try:
            with path.open("rb") as file:
                data = file.read(limits.max_bytes + 1)  # one more than are allowed is enough to refuse it
        except OSError as error:
            yield _Bytes(found, None, None, reason(error))
        else:
            yield _Bytes(found, None, data)


def _read_rows(part: Rows, job: Job) -> Iterator[_Bytes]:
    """Yield a part's rows; those behind a place where the file is damaged cannot be read, and are yielded, too."""
    row, last = part.row, part.row + part.count
    try:
        for picture, name in islice(_values(part, job), part.first, part.first + part.count):
            data = picture.get("bytes") if isinstance(picture, dict) else picture
            text = None if name is None else str(name)
            sound = data if isinstance(data, bytes) else None
            yield _Bytes(_numbered(part, row), text, sound, "the row holds no picture")
            row += 1
    except (OSError, pyarrow.ArrowException):
        for missing in range(row, last):
            yield _Bytes(_numbered(part, missing), None, None, "the Parquet file is damaged or gone")


def _values(part: Rows, job: Job) -> Iterator[tuple[Any, Any]]:
    names = [job.column] if job.name_column is None else [job.column, job.name_column]
    with parquet.ParquetFile(part.table) as file:
        for batch in file.iter_batches(_READ, row_groups=[part.group], columns=names):
            pictures = batch.column(job.column).to_pylist()
            given = [None] * len(pictures) if job.name_column is None else batch.column(job.name_column).to_pylist()
            yield from zip(pictures, given, strict=True)


def _numbered(part: Rows, row: int) -> Found:
    return Found(Path(f"{os.fspath(part.table)}#{row}"))


def _answered(seen: Sequence[Seen], recognizer: Recognizer) -> Iterator[Outcome]:
    inputs = [face for one in seen if isinstance(one, Looked) for face in one.inputs]
    read = iter(read_faces(inputs, recognizer))
    for one in seen:
        if isinstance(one, Unread):
            yield Failure(one.file, one.reason)
        else:
            yield Answer(one.file, one.width, one.height, list(islice(read, len(one.inputs))), None)
