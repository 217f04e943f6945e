"""Sink: what takes outcomes one by one and makes something of them; here those that write rows.

Whatever stops the work, what a sink has written is whole: ``close`` is always called, and the files that grow by lines
are whole after each picture, even when the process is killed.
"""

import csv
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Protocol

from manet.bulk.pipeline import Outcome
from manet.bulk.records import columns, flat, nested
from manet.files import write_whole
from manet.weights import Weights


class Sink(Protocol):
    """Takes outcomes in the order of their files."""

    def add(self, outcome: Outcome) -> None:
        """Take one.

        Raises:
            OSError: if what is made of it cannot be written.
        """

    def close(self) -> None:
        """Finish what is written; nothing is added after that."""


class JsonLines:
    """One JSON object a line and file, as the service would answer it.

    Args:
        stream: text; written and flushed after each file.
        model: id of the weights.
    """

    def __init__(self, stream: IO[str], model: str) -> None:
        self._stream = stream
        self._model = model

    def add(self, outcome: Outcome) -> None:
        """Write a line."""
        self._stream.write(json.dumps(nested(outcome, self._model)) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the stream to whoever opened it."""


class JsonLinesFile(JsonLines):
    """The same in a file of its own."""

    def __init__(self, path: Path, weights: Weights) -> None:
        self._file = _text(path)
        super().__init__(self._file, weights.id)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvFile:
    """Comma-separated values (RFC 4180, with bare line feeds), a header and one row a face."""

    def __init__(self, path: Path, weights: Weights) -> None:
        self._file = _text(path)
        self._model = weights.id
        self._columns = columns(weights.classes)
        self._write([dict(zip(self._columns, self._columns, strict=True))])

    def add(self, outcome: Outcome) -> None:
        """Write a picture's rows."""
        self._write(flat(outcome, self._model))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        lines = io.StringIO()
        csv.DictWriter(lines, self._columns, lineterminator="\n").writerows(rows)
        self._file.write(lines.getvalue())  # in one piece, so that no picture is half there
        self._file.flush()


class ParquetFile:
    """Apache Parquet, one row a face; in its place when it is closed, as such a file ends with its directory."""

    _ROWS = 4096
    """Rows in memory before they become a row group."""

    def __init__(self, path: Path, weights: Weights) -> None:
        import pyarrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415

        from manet.bulk.arrow import schema  # noqa: PLC0415

        self._schema = schema(weights.classes)
        self._table = pyarrow.Table
        self._path = path
        self._model = weights.id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
        self._part = Path(self._folder.name) / path.name
        self._writer = parquet.ParquetWriter(self._part, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, outcome: Outcome) -> None:
        """Take a picture's rows."""
        self._rows += flat(outcome, self._model)
        if len(self._rows) >= self._ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left, and put the file in its place."""
        with self._folder:
            self._flush()
            self._writer.close()
            write_whole(self._path, lambda place: os.replace(self._part, place))

    def _flush(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _text(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8", newline="")


_TABLES: Mapping[str, type[JsonLinesFile | CsvFile | ParquetFile]] = MappingProxyType(
    {".csv": CsvFile, ".jsonl": JsonLinesFile, ".parquet": ParquetFile}
)


def check_table(path: Path) -> None:
    """Make sure, before any work is done, that ``table`` can write there.

    Raises:
        ValueError: if the name ends like none of the formats, or what the format needs is not installed.
    """
    if path.suffix.lower() not in _TABLES:
        raise ValueError(f"expected a name in {', '.join(_TABLES)}, found {path.name}")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise ValueError("Parquet needs pyarrow, which is not installed: pip install 'manet[parquet]'")


def table(path: Path, weights: Weights) -> Sink:
    """Return the sink that writes a file of rows, in the format that its name ends with.

    ``.csv`` and ``.jsonl`` grow with each picture. ``.parquet`` is in its place once it is closed.

    Raises:
        OSError: if the file cannot be made.
    """
    return _TABLES[path.suffix.lower()](path, weights)
