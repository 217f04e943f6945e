"""``manet predict``: apparent expressions of the faces in picture files and folders of them."""

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from manet.backends.base import Device, EngineName, PrecisionName
from manet.batch.drawings import Drawings
from manet.batch.pipeline import Failure, Look, Outcome, answers
from manet.batch.records import name_of, picture_form
from manet.batch.sheet import ContactSheet
from manet.batch.sinks import JsonLines, Sink, check_table, table
from manet.batch.terminal import TerminalTable, printable, say, shares
from manet.batch.walk import Found, walk
from manet.cli.offline import predict_on_ray
from manet.cli.weights import Store
from manet.cpus import picture_threads
from manet.recognizer import MAX_FACES, FaceMode, Recognizer
from manet.stop import INTERRUPTED, Stop
from manet.video.names import is_clip
from manet.vision.images import ONE_OF_THE_FORMATS, PictureLimits
from manet.weights.entry import Weights

_MOST_LISTED = 1000
"""Files that could not be read are listed one by one up to this many, and counted beyond."""


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help=f"Images ({ONE_OF_THE_FORMATS}) and folders of them; or one clip."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line and file, or frame.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the answers as .csv, .jsonl or .parquet.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a contact sheet of all faces as .png.")
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Write the picture, or the clip, with boxes and names; a folder for several pictures."
        ),
    ] = None,
    weights: Annotated[str, typer.Option(help="One of those that `manet weights list` shows.")] = "ferplus",
    faces: Annotated[FaceMode, typer.Option(help="Look for faces, or take each picture as one.")] = "detect",
    max_faces: Annotated[int, typer.Option(min=1, help="The most faces to answer in a picture.")] = MAX_FACES,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = "auto",
    backend: Annotated[EngineName, typer.Option(help="What runs it.")] = "auto",
    precision: Annotated[PrecisionName, typer.Option(help="The number format that it runs in.")] = "auto",
    store: Store = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="This process, or a Ray cluster, which writes a folder of Parquet files named by --out."),
    ] = "local",
    part_pictures: Annotated[int, typer.Option(min=1, help="With ray: pictures in each file of answers.")] = 1000,
    column: Annotated[str, typer.Option(help="With ray: the column of Parquet files that holds pictures.")] = "image",
    name_column: Annotated[
        str | None, typer.Option(help="With ray: the column that names them; by default they are numbered.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="With ray: the cluster; by default RAY_ADDRESS, or one is started here.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="With ray: GPUs that each network reserves.")] = 0.0,
) -> None:
    """Name the apparent expression of each face, with its probability.

    Folders are searched to the bottom; hidden files, and files whose names do not end like a picture's, are passed
    over. Files that could not be read are listed at the end. The exit status is 1 if there are any, or no picture at
    all, and 130 after Ctrl-C, which finishes the pictures in work and leaves whole files.

    Of a clip, such as an .mp4, each frame is answered: --out has a row for each face of each frame, --draw is a copy
    that keeps the sound. Where neither they nor --json are given, both are made beside the clip: CLIP-faces.csv and
    CLIP-faces.mp4.
    """
    if any(is_clip(path) for path in paths):
        _check_clip(alone=len(paths) == 1 and sheet is None and engine == "local")
        from manet.cli.video import Targets, predict_on_clip  # noqa: PLC0415 - an extra

        targets = Targets(as_json=as_json, out=out, draw=draw)
        load = partial(_recognizer, weights, backend, precision, device, store)
        predict_on_clip(paths[0], targets, load, faces=faces, max_faces=max_faces)
        return
    if engine == "ray":
        predict_on_ray(
            paths,
            out,
            weights=weights,
            faces=faces,
            max_faces=max_faces,
            device=device,
            backend=backend,
            precision=precision,
            store=store,
            part_pictures=part_pictures,
            column=column,
            name_column=name_column,
            address=address,
            gpus=gpus,
        )
        return
    pictures = _pictures(paths, out, sheet, draw)
    recognizer = _recognizer(weights, backend, precision, device, store)
    look = Look(faces=faces, max_faces=max_faces, keep_image=bool(pictures), limits=PictureLimits())
    stop, tally = Stop(), _Tally()

    def named() -> Iterator[Found]:
        return walk(paths, leave_out=lambda path: any(sink.made(path) for sink in pictures))

    with stop.on_signals(), ExitStack() as closing:
        sinks: list[Sink[Outcome]] = [*pictures, *_written(out, as_json, recognizer.weights)]
        for sink in sinks:
            closing.callback(sink.close)
        files = itertools.takewhile(lambda _: not stop.asked, named())
        outcomes = answers(files, recognizer, look, workers=picture_threads())
        for outcome in _watched(outcomes, lambda: sum(1 for _ in named())):
            tally.add(outcome)
            for sink in sinks:
                sink.add(outcome)
    _report(tally, Console(stderr=True), listed=not as_json, counted=out is not None or stop.asked)
    if stop.asked:
        raise typer.Exit(INTERRUPTED)
    if tally.failed or not tally.pictures:
        raise typer.Exit(1)


def _pictures(
    paths: list[Path], out: Path | None, sheet: Path | None, draw: Path | None
) -> list[ContactSheet | Drawings]:
    """Return what pictures are written to, when every target was found to be one.

    Raises:
        typer.BadParameter: if one is not.
    """
    try:
        if out is not None:
            check_table(out)
        sheets = [] if sheet is None else [ContactSheet(sheet)]
        drawings = [] if draw is None else [Drawings(paths, draw)]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return [*sheets, *drawings]


def _recognizer(
    weights: str, backend: EngineName, precision: PrecisionName, device: Device, store: Path | None
) -> Recognizer:
    try:
        return Recognizer.from_weights(weights, engine=backend, precision=precision, device=device, store=store)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _check_clip(*, alone: bool) -> None:
    """Make sure that a clip can be answered: nothing else is asked for, and what it needs is installed."""
    if not alone:
        raise typer.BadParameter("a clip is answered by itself: without other files, --sheet and --engine ray")
    if find_spec("av") is None:
        raise typer.BadParameter("clips need PyAV, which is not installed: pip install 'manet[video]'")


def _written(out: Path | None, as_json: bool, weights: Weights) -> list[Sink[Outcome]]:
    """Return what writes the answers: a file, lines on standard output, or a table where neither is asked for."""
    form = picture_form(weights)
    sinks: list[Sink[Outcome]] = [] if out is None else [table(out, form)]
    if as_json:
        return [*sinks, JsonLines(sys.stdout, form)]
    return sinks or [TerminalTable(Console())]


@dataclass(slots=True)
class _Tally:
    """What came of it all."""

    pictures: int = 0
    failed: int = 0
    faces: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Failure):
            self.pictures += 1
            self.faces.update(face.expression for face in outcome.faces)
            return
        self.failed += 1
        if self.failed <= _MOST_LISTED:
            self.failures.append((printable(name_of(outcome)), outcome.reason))


def _watched(outcomes: Iterator[Outcome], count: Callable[[], int]) -> Iterator[Outcome]:
    """Yield the outcomes, with a bar for a person who watches; only then the files are counted beforehand."""
    console = Console(stderr=True)
    total = count() if console.is_terminal else 0
    if total <= 1:
        yield from outcomes
        return
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(outcomes, total=total)


def _report(tally: _Tally, console: Console, *, listed: bool, counted: bool) -> None:
    """Tell what could not be read, and, where nothing else tells it, how much was done."""
    if listed:
        for name, reason in tally.failures:
            say(console, f"{name}: {reason}", "red")
        if tally.failed > len(tally.failures):
            say(console, f"and {tally.failed - len(tally.failures):,} more could not be read", "red")
    if not tally.pictures and not tally.failed:
        say(console, "no pictures there", "red")
    if counted:
        unread = f", {tally.failed:,} files that could not be read" if tally.failed else ""
        named = shares(tally.faces)
        say(console, f"{tally.pictures:,} pictures{unread}, {tally.faces.total():,} faces{named and f': {named}'}")
