"""``manet predict`` in this process: image files and folders of them, into rows, contact sheets and drawings."""

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from manet.batch.drawings import Drawings
from manet.batch.pipeline import DetectionOptions, Failure, Outcome, answers
from manet.batch.records import image_form, name_of
from manet.batch.sheet import ContactSheet
from manet.batch.sinks import JsonLines, Sink, check_table, table
from manet.batch.terminal import TerminalTable, printable, say, say_passed_over, shares
from manet.batch.walk import Found, walk
from manet.cpus import image_threads
from manet.recognizer import FaceMode, Recognizer
from manet.stop import INTERRUPTED, Stop
from manet.vision.images import ImageLimits
from manet.weights.entry import Weights

MOST_LISTED = 1000
"""Files that could not be read are listed one by one up to this many, and counted beyond."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is made of the images.

    Attributes:
        as_json: whether an object for each file is printed.
        out: where rows are written.
        sheet: where the contact sheet is.
        draw: where the images with their faces marked are.
    """

    as_json: bool
    out: Path | None
    sheet: Path | None
    draw: Path | None

    def images(self, paths: list[Path]) -> list[ContactSheet | Drawings]:
        """Return what images are written to, when every target was found to be one.

        Raises:
            typer.BadParameter: if one is not.
        """
        try:
            if self.out is not None:
                check_table(self.out)
            sheets = [] if self.sheet is None else [ContactSheet(self.sheet)]
            drawings = [] if self.draw is None else [Drawings(paths, self.draw)]
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return [*sheets, *drawings]

    def rows(self, weights: Weights) -> list[Sink[Outcome]]:
        """Return what writes the answers: a file, lines on standard output, or a table where neither is requested."""
        form = image_form(weights)
        sinks: list[Sink[Outcome]] = [] if self.out is None else [table(self.out, form)]
        if self.as_json:
            return [*sinks, JsonLines(sys.stdout, form)]
        return sinks or [TerminalTable(Console())]


def predict_locally(
    paths: list[Path], outputs: Outputs, load: Callable[[], Recognizer], *, faces: FaceMode, max_faces: int
) -> None:
    """Answer the images, and show the progress on standard error; see ``manet.batch``.

    Args:
        paths: files and folders.
        outputs: what is made of them.
        load: returns the recognizer; it is not called before the outputs were found to be right.
        faces: whether to detect faces, or to take each image as one.
        max_faces: the most faces to answer in an image.

    Raises:
        typer.BadParameter: if an output cannot be made.
        typer.Exit: with 1 if a file could not be read or there is none, with 130 if the work was asked to end.
        OSError: if something cannot be written.
    """
    images = outputs.images(paths)
    recognizer = load()
    options = DetectionOptions(faces=faces, max_faces=max_faces, keep_image=bool(images), limits=ImageLimits())
    stop, tally = Stop(), _Tally()

    def named(passed_over: Counter[str] | None = None) -> Iterator[Found]:
        return walk(paths, leave_out=lambda path: any(sink.made(path) for sink in images), passed_over=passed_over)

    with stop.on_signals(), ExitStack() as closing:
        sinks: list[Sink[Outcome]] = [*images, *outputs.rows(recognizer.weights)]
        for sink in sinks:
            closing.callback(sink.close)
        files = itertools.takewhile(lambda _: not stop.asked, named(tally.passed_over))
        outcomes = answers(files, recognizer, options, workers=image_threads())
        for outcome in _watched(outcomes, lambda: sum(1 for _ in named())):
            tally.add(outcome)
            for sink in sinks:
                sink.add(outcome)
    _report(tally, Console(stderr=True), listed=not outputs.as_json, counted=outputs.out is not None or stop.asked)
    if stop.asked:
        raise typer.Exit(INTERRUPTED)
    if tally.failed or not tally.images:
        raise typer.Exit(1)


@dataclass(slots=True)
class _Tally:
    """What came of it all."""

    images: int = 0
    failed: int = 0
    faces: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Failure):
            self.images += 1
            self.faces.update(face.expression for face in outcome.faces)
            return
        self.failed += 1
        if self.failed <= MOST_LISTED:
            self.failures.append((printable(name_of(outcome)), outcome.reason))


def _watched(outcomes: Iterator[Outcome], count: Callable[[], int]) -> Iterator[Outcome]:
    """Yield the outcomes, with a bar for a person who watches; only then the files are counted beforehand."""
    console = Console(stderr=True)
    total = count() if console.is_terminal else 0
    if total <= 1:
        yield from outcomes
        return
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(outcomes, total=total)


def _report(tally: _Tally, console: Console, *, listed: bool, counted: bool) -> None:
    """Print what could not be read, what was passed over, and, where nothing else shows it, how much was done."""
    if listed:
        for name, reason in tally.failures:
            say(console, f"{name}: {reason}", "red")
        if tally.failed > len(tally.failures):
            say(console, f"and {tally.failed - len(tally.failures):,} more could not be read", "red")
    say_passed_over(console, tally.passed_over)
    if not tally.images and not tally.failed:
        say(console, "no images there", "red")
    if counted:
        unread = f", {tally.failed:,} files that could not be read" if tally.failed else ""
        named = shares(tally.faces)
        say(console, f"{tally.images:,} images{unread}, {tally.faces.total():,} faces{named and f': {named}'}")
