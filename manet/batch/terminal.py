"""Terminal: outcomes as a table that a person reads."""

from collections import Counter

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from manet.batch.pipeline import Failure, Outcome
from manet.batch.records import name_of
from manet.recognizer import RecognizedFace

_PAGE = 500
"""Rows of one table; the widths of its columns are only known when all its rows are."""


def say(console: Console, line: str, style: str | None = None) -> None:
    """Print a line as it is, whatever stands in it and however long it is."""
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def say_passed_over(console: Console, kinds: Counter[str]) -> None:
    """Print how many files were passed over, by kind, the most frequent first; nothing where there were none."""
    if kinds.total():
        listed = ", ".join(f"{number:,} {printable(kind)}" for kind, number in kinds.most_common() if number)
        say(console, f"passed over: {listed}")


def shares(faces: Counter[str]) -> str:
    """Return how often each expression was answered, the most frequent first; nothing where there was no face."""
    return ", ".join(f"{expression} {number:,}" for expression, number in faces.most_common())


class TerminalTable:
    """One row a face; see ``manet.batch.sinks.Sink``.

    Args:
        console: where it is printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._table = _empty()

    def add(self, outcome: Outcome) -> None:
        """Add an image's rows; files that could not be read are reported elsewhere."""
        if isinstance(outcome, Failure):
            return
        name = printable(name_of(outcome))
        if not outcome.faces:
            self._table.add_row(Text(name), "none")
        for number, face in enumerate(outcome.faces, start=1):
            self._table.add_row(Text(name), str(number), *_cells(face))
        if self._table.row_count >= _PAGE:
            self.close()
            self._table = _empty()

    def close(self) -> None:
        """Print what is not printed yet."""
        if self._table.row_count:
            self._console.print(self._table)


def printable(name: str) -> str:
    """Return a name without what a terminal would take for an order, such as an escape."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in name)


def _empty() -> Table:
    columns = ("face", "x", "y", "width", "height", "expression", "next")
    return Table(Column("file", overflow="fold"), *columns, box=None, pad_edge=False)


def _cells(face: RecognizedFace) -> list[str]:
    box = None if face.face is None else face.face.box
    place = ["-"] * 4 if box is None else [f"{v:.0f}" for v in (box.x, box.y, box.width, box.height)]
    first, second = sorted(face.probabilities.items(), key=lambda entry: -entry[1])[:2]
    return place + [f"{name} {share:.0%}" for name, share in (first, second)]
