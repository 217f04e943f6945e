"""Plan: images cut into numbered parts, written down before any work is done.

The plan is one Parquet file, ``_plan.parquet`` in the folder of the answers, written whole or not at all. It holds
what was requested and the images of every part, so a run that goes on later, on whatever machine, means the same
images by the same number. Images that come into a folder later are not in it.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar

import pyarrow
from pyarrow import parquet

from manet.backends.base import BackendName, PrecisionName
from manet.batch.walk import Found, walk
from manet.errors import OfflineRunError
from manet.files import atomic_write
from manet.recognizer import FaceMode

NAME = "_plan.parquet"
"""Readers of a folder of Parquet files pass over what begins with an underscore or a dot."""

Item = TypeVar("Item")

_JOB = b"manet_job"
_GROUP = 64
"""Parts in one row group of the plan: what is read to learn of one part."""

_SCHEMA = pyarrow.schema(
    [
        ("table", pyarrow.binary()),
        ("group", pyarrow.int32()),
        ("first", pyarrow.int64()),
        ("row", pyarrow.int64()),
        ("count", pyarrow.int64()),
        ("files", pyarrow.list_(pyarrow.binary())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked of which images.

    Attributes:
        sources: absolute paths of images, of Parquet files, and of folders of both.
        weights: id of the weights.
        sha256: of the weights' file.
        backend: what runs the network; ``auto`` is left open, and decided once for the whole run.
        precision: the number format that it runs in; likewise.
        faces: whether to detect faces, or to take each image as one.
        max_faces: the most faces to answer in an image.
        part_images: the most images in a part: what a killed run does again, for each that was in flight.
        column: of a Parquet file, that holds the images: bytes, or a struct with a field ``bytes``.
        name_column: of a Parquet file, that names them; None numbers them, as ``PATH#ROW`` from 0.
    """

    sources: tuple[str, ...]
    weights: str
    sha256: str | None
    faces: FaceMode
    max_faces: int
    part_images: int
    column: str
    name_column: str | None
    backend: BackendName = "auto"
    precision: PrecisionName = "auto"

    def as_in(self, other: "Job") -> Self:
        """Return it with what it leaves open as another job has it."""
        return replace(
            self,
            backend=other.backend if self.backend == "auto" else self.backend,
            precision=other.precision if self.precision == "auto" else self.precision,
        )


@dataclass(frozen=True, slots=True)
class TableRows:
    """Images in a row group of a Parquet file.

    Attributes:
        table: the file.
        group: number of the row group.
        first: of the rows, in the group.
        row: number of that row in the file.
        count: of the rows.
    """

    table: Path
    group: int
    first: int
    row: int
    count: int


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images in files of their own."""

    paths: tuple[Path, ...]


Part = TableRows | ImageFiles


class Plan:
    """The parts of a job, by number from 0.

    Args:
        folder: of the answers.
    """

    def __init__(self, folder: Path) -> None:
        self._file = parquet.ParquetFile(folder / NAME)

    def __len__(self) -> int:
        """Return how many parts there are."""
        count: int = self._file.metadata.num_rows
        return count

    @property
    def job(self) -> Job:
        """What was requested."""
        asked = json.loads(self._file.schema_arrow.metadata[_JOB])
        return Job(**{**asked, "sources": tuple(asked["sources"])})

    def part(self, number: int) -> Part:
        """Return a part."""
        row = self._file.read_row_group(number // _GROUP).slice(number % _GROUP, 1).to_pylist()[0]
        if row["table"] is None:
            return ImageFiles(tuple(Path(os.fsdecode(path)) for path in row["files"]))
        return TableRows(Path(os.fsdecode(row["table"])), row["group"], row["first"], row["row"], row["count"])


def planned(job: Job, folder: Path, passed_over: Counter[str] | None = None) -> Plan:
    """Return the plan of a job: the one in the folder, or a new one that is written there.

    Args:
        job: what is asked of which images.
        folder: of the answers.
        passed_over: counts by kind the files that a new plan does not have, see ``manet.batch.walk.walk``.

    Raises:
        OfflineRunError: if the folder holds the plan of another job, or there is no image at all.
        OSError: if a source cannot be read, or the plan not be written.
        pyarrow.ArrowException: if a Parquet file is none, or has no such columns.
    """
    if not (folder / NAME).exists():
        atomic_write(folder / NAME, lambda path: _write(job, _parts(job, folder, passed_over), path))
    plan = Plan(folder)
    if plan.job != job:
        asked, found = asdict(job), asdict(plan.job)
        other = ", ".join(f"{key} {found[key]} instead of {asked[key]}" for key in asked if asked[key] != found[key])
        raise OfflineRunError(f"{folder} holds answers to something else: {other}; choose another folder")
    return plan


def _write(job: Job, parts: Iterator[Part], path: Path) -> None:
    schema = _SCHEMA.with_metadata({_JOB: json.dumps(asdict(job))})
    written = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _cut(parts, _GROUP):
            writer.write_table(pyarrow.Table.from_pylist(list(map(_row, group)), schema=schema))
            written += len(group)
    if not written:
        raise OfflineRunError(f"no images there: {', '.join(job.sources)}")


def _row(part: Part) -> dict[str, object]:
    if isinstance(part, ImageFiles):
        return {"count": len(part.paths), "files": [os.fsencode(path) for path in part.paths]}
    where = {"group": part.group, "first": part.first, "row": part.row}
    return {"table": os.fsencode(part.table), "count": part.count, **where}


def _parts(job: Job, folder: Path, passed_over: Counter[str] | None) -> Iterator[Part]:
    sources = [Path(source) for source in job.sources]
    for table in _tables(sources, folder):
        yield from _rows(table, job)
    images = walk(
        [source for source in sources if not _is_table(source)],
        leave_out=lambda path: path == folder or _is_table(path),
        passed_over=passed_over,
    )
    for files in _cut(map(_readable, images), job.part_images):
        yield ImageFiles(tuple(files))


def _readable(found: Found) -> Path:
    """Return the path of a file; a folder that cannot be read ends the planning, for its images are unknown."""
    if found.error is not None:
        raise found.error
    return found.path


def _tables(sources: Iterable[Path], folder: Path) -> Iterator[Path]:
    for source in sources:
        if _is_table(source):
            yield source
        elif source.is_dir():
            for table in sorted(filter(_is_table, source.rglob("*.parquet"))):
                below = table.relative_to(source).parts
                if folder not in table.parents and not any(name.startswith((".", "_")) for name in below):
                    yield table


def _is_table(path: Path) -> bool:
    """Return whether it is a Parquet file by its name; Spark and Dask call a folder of them so, too."""
    return path.suffix == ".parquet" and not path.is_dir()


def _rows(table: Path, job: Job) -> Iterator[TableRows]:
    with parquet.ParquetFile(table) as file:
        for column in filter(None, (job.column, job.name_column)):
            if column not in file.schema_arrow.names:
                raise OfflineRunError(f"{table} has no column {column}; it has {', '.join(file.schema_arrow.names)}")
        row = 0
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            for first in range(0, rows, job.part_images):
                yield TableRows(table, group, first, row + first, min(job.part_images, rows - first))
            row += rows


def _cut(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
