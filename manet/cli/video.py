"""``manet predict CLIP``: apparent expressions in every frame of a video, as rows and drawn into a copy.

It needs PyAV, the extra ``video``.
"""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from manet.batch.pipeline import DetectionOptions, reason
from manet.batch.records import as_text
from manet.batch.sinks import JsonLines, Sink, check_table, table
from manet.batch.terminal import printable, say, shares
from manet.cpus import image_threads
from manet.errors import VideoError
from manet.recognizer import FaceMode, Recognizer
from manet.stop import INTERRUPTED, Stop
from manet.tracking import Tracker
from manet.video.annotated import AnnotatedClip, best_suffix
from manet.video.clip import Clip, Sound
from manet.video.names import COPIES, beside
from manet.video.pipeline import FrameAnswer, answers
from manet.video.records import frame_form
from manet.vision.images import ImageLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What is made of a clip; where nothing is named, rows and a copy beside it.

    Attributes:
        as_json: whether an object for each frame is printed.
        out: where rows are written.
        draw: where the annotated copy is.
    """

    as_json: bool
    out: Path | None
    draw: Path | None

    def check(self, clip: Path) -> None:
        """Make sure, before any work is done, that they can be made and none is the clip itself.

        Raises:
            ValueError: if not.
        """
        if self.out is not None:
            check_table(self.out)
        if self.draw is not None and self.draw.suffix.lower() not in COPIES:
            raise ValueError(f"--draw writes {', '.join(COPIES)} of a clip; {self.draw} is none of them")
        for target in (self.out, self.draw):
            if target is not None and _same(target, clip):
                raise ValueError(f"{target} is the clip itself, which would be overwritten")


def _same(one: Path, other: Path) -> bool:
    both_there = one.exists() and other.exists()
    return os.path.abspath(one) == os.path.abspath(other) or (both_there and one.samefile(other))


def predict_on_clip(
    path: Path,
    targets: Targets,
    load: Callable[[], Recognizer],
    *,
    faces: FaceMode,
    max_faces: int,
) -> None:
    """Answer each frame of a clip, and show the progress on standard error; see ``manet.video``.

    Args:
        path: the clip.
        targets: what is made of it.
        load: returns the recognizer; it is not called before the clip and the targets were found to be right.
        faces: whether to detect faces, or to take each frame as one.
        max_faces: the most faces to answer in a frame.

    Raises:
        typer.BadParameter: if the targets cannot be made.
        typer.Exit: with 1 if the clip cannot be read to its end, with 130 if the work was asked to end.
        VideoError: if the copy cannot be written.
        OSError: if something cannot be written.
    """
    try:
        targets.check(path)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    console, limits = Console(stderr=True), ImageLimits()
    try:
        clip = Clip(path, max_pixels=limits.max_pixels)
    except (VideoError, OSError) as error:
        say(console, f"{printable(as_text(path))}: {reason(error)}", "red")
        raise typer.Exit(1) from None
    with clip:
        if not (targets.as_json or targets.out or targets.draw):
            targets = _beside(path, clip)
            targets.check(path)
        recognizer = load()
        options = DetectionOptions(faces=faces, max_faces=max_faces, keep_image=targets.draw is not None, limits=limits)
        stop = Stop()
        with stop.on_signals():
            tally = _answer(path, clip, targets, recognizer, options, stop)
        trouble = None if stop.asked else clip.trouble
    _report(tally, path, targets, trouble, console)
    if stop.asked:
        raise typer.Exit(INTERRUPTED)
    if trouble is not None:
        raise typer.Exit(1)


def _beside(path: Path, clip: Clip) -> Targets:
    """Return rows and a copy next to the clip."""
    return Targets(as_json=False, out=beside(path, ".csv"), draw=beside(path, best_suffix(clip.sound)))


@dataclass(slots=True)
class _Tally:
    """What came of it all."""

    frames: int = 0
    seconds: float = 0.0
    tracks: int = 0
    faces: Counter[str] = field(default_factory=Counter)

    def add(self, answer: FrameAnswer) -> None:
        self.frames += 1
        self.seconds = answer.moment.time
        self.tracks = max([self.tracks, *(face.track for face in answer.faces)])
        self.faces.update(face.smoothed_face.expression for face in answer.faces)


def _answer(
    path: Path, clip: Clip, targets: Targets, recognizer: Recognizer, options: DetectionOptions, stop: Stop
) -> _Tally:
    tally, form = _Tally(), frame_form(path, recognizer.weights)
    with ExitStack() as closing:
        copy = None if targets.draw is None else AnnotatedClip(targets.draw, clip)
        if copy is not None:
            closing.callback(copy.close)
        sinks: list[Sink[FrameAnswer]] = [JsonLines(sys.stdout, form)] if targets.as_json else []
        if targets.out is not None:
            sinks.append(table(targets.out, form))
        for sink in sinks:
            closing.callback(sink.close)
        pieces = itertools.takewhile(lambda _: not stop.asked, clip.pieces())
        frame_bytes = 3 * clip.width * clip.height
        answered = answers(pieces, recognizer, options, Tracker(), workers=image_threads(), frame_bytes=frame_bytes)
        for item in _watched(answered, clip.duration):
            if copy is not None:
                copy.add(item)
            if isinstance(item, FrameAnswer):
                tally.add(item)
                for sink in sinks:
                    sink.add(item)
    return tally


def _watched(answered: Iterator[FrameAnswer | Sound], duration: float | None) -> Iterator[FrameAnswer | Sound]:
    """Yield what was answered, with a bar for a person who watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from answered
        return
    frames = TextColumn("{task.fields[frames]:,} frames")
    with Progress(
        BarColumn(), TaskProgressColumn(), frames, TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=duration, frames=0)
        for item in answered:
            if isinstance(item, FrameAnswer):
                bar.update(task, completed=item.moment.time, frames=item.moment.number + 1)
            yield item


def _report(tally: _Tally, path: Path, targets: Targets, trouble: str | None, console: Console) -> None:
    """Print what went wrong, how much was done, and where it is."""
    name = printable(as_text(path))
    if trouble is not None:
        say(console, f"{name}: {trouble}", "red")
    named = shares(tally.faces)
    found = f"{tally.faces.total():,} faces on {tally.tracks:,} tracks{named and f': {named}'}"
    say(console, f"{name}: {tally.frames:,} frames, the last at {tally.seconds:.2f} s, {found}")
    for target in (targets.out, targets.draw):
        if target is not None and tally.frames:
            say(console, f"written: {printable(as_text(target))}")
