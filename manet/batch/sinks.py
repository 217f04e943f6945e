"""Sink: what takes outcomes one by one and makes something of them; here those that write rows.

Whatever stops the work, what a sink has written is whole: ``close`` is always called, and the files that grow by lines
are whole after each item, even when the process is killed.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Generic, Protocol

from manet.batch.records import Item_contra, RecordFormat
from manet.files import AtomicFile


class Sink(Protocol[Item_contra]):
    """Takes what was answered, in its order: outcomes of images, or frames of a clip."""

    def add(self, item: Item_contra, /) -> None:
        """Take one.

        Raises:
            OSError: if what is made of it cannot be written.
        """

    def close(self) -> None:
        """Finish what is written; nothing is added after that."""


class JsonLines(Generic[Item_contra]):
    """One JSON object a line and item, as the service would answer it.

    Args:
        stream: text; written and flushed after each item.
        form: how an item is written down.
    """

    def __init__(self, stream: IO[str], form: RecordFormat[Item_contra]) -> None:
        self._stream = stream
        self._form = form

    def add(self, item: Item_contra) -> None:
        """Write a line."""
        self._stream.write(json.dumps(self._form.nested(item)) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the stream to its owner."""


class JsonLinesFile(JsonLines[Item_contra]):
    """The same in a file of its own."""

    def __init__(self, path: Path, form: RecordFormat[Item_contra]) -> None:
        self._file = _text(path)
        super().__init__(self._file, form)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvFile(Generic[Item_contra]):
    """Comma-separated values (RFC 4180, with bare line feeds), a header and one row a face."""

    def __init__(self, path: Path, form: RecordFormat[Item_contra]) -> None:
        self._file = _text(path)
        self._form = form
        self._write([{name: name for name in form.columns}])

    def add(self, item: Item_contra) -> None:
        """Write an item's rows."""
        self._write(self._form.flat(item))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        lines = io.StringIO()
        csv.DictWriter(lines, list(self._form.columns), lineterminator="\n").writerows(rows)
        self._file.write(lines.getvalue())  # in one piece, so that no item is half there
        self._file.flush()


class ParquetFile(Generic[Item_contra]):
    """Apache Parquet, one row a face; in its place when it is closed, as such a file ends with its directory."""

    _ROWS = 4096
    """Rows in memory before they become a row group."""

    def __init__(self, path: Path, form: RecordFormat[Item_contra]) -> None:
        import pyarrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415

        from manet.batch.arrow import schema  # noqa: PLC0415

        self._schema = schema(form.columns)
        self._table = pyarrow.Table
        self._form = form
        self._file = AtomicFile(path)
        self._writer = parquet.ParquetWriter(self._file.part, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, item: Item_contra) -> None:
        """Take an item's rows."""
        self._rows += self._form.flat(item)
        if len(self._rows) >= self._ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left, and put the file in its place."""
        with self._file:
            self._flush()
            self._writer.close()
            self._file.commit()

    def _flush(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _text(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8", newline="")


_TABLES = (".csv", ".jsonl", ".parquet")


def check_table(path: Path) -> None:
    """Make sure, before any work is done, that ``table`` can write there.

    Raises:
        ValueError: if the name ends like none of the formats, or what the format needs is not installed.
    """
    if path.suffix.lower() not in _TABLES:
        raise ValueError(f"expected a name in {', '.join(_TABLES)}, found {path.name}")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise ValueError("Parquet needs pyarrow, which is not installed: pip install 'manet[parquet]'")


def table(path: Path, form: RecordFormat[Item_contra]) -> Sink[Item_contra]:
    """Return the sink that writes a file of rows, in the format that its name ends with.

    ``.csv`` and ``.jsonl`` grow with each item. ``.parquet`` is in its place once it is closed.

    Raises:
        OSError: if the file cannot be made.
    """
    match path.suffix.lower():
        case ".csv":
            return CsvFile(path, form)
        case ".jsonl":
            return JsonLinesFile(path, form)
        case _:
            return ParquetFile(path, form)
