"""A run folder: recipe, log, curve, and the checkpoint from which a stopped run goes on.

``recipe.json``, ``run.json``     what was run, on what, with which versions; written once
``checkpoint.pt``                 the whole state, replaced atomically
``log.csv``, ``curve.png``        one row an epoch, and its picture
``tensorboard/``                  the same for TensorBoard
``best.json``, ``confusion.png``  the best epoch's evaluation
``best.safetensors``              the weights of the epoch with the highest validation accuracy
``last.safetensors``              the weights of the latest epoch
"""

import csv
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter

from manet.checkpoint import save_weights
from manet.files import write_whole
from manet.header import Header, Use
from manet.labels import Expression
from manet.stop import Stop
from manet.weights import get
from training.confusion import MOST_CLASSES, draw_confusion
from training.curve import draw_curve
from training.datasets import Name
from training.loop import EpochResult, Trainer
from training.published import published_run
from training.recipe import Recipe

LIE_AS_IN_FERPLUS: frozenset[Name] = frozenset({"ferplus", "fer2013", "caer_s"})
"""The sets whose faces lie in their pictures as FER+'s do: the same pictures, and those that ``prepare`` aligned."""


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.log = path / "log.csv"

    def create(self, recipe: Recipe, facts: dict[str, Any]) -> None:
        """Make the folder for a new run.

        Raises:
            FileExistsError: if there is a run in it already.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / "recipe.json").exists():
            raise FileExistsError(
                f"{self.path} holds a run already; continue it with --resume, or choose another folder"
            )
        self._write("recipe.json", recipe.model_dump_json(indent=2))
        self._write("run.json", json.dumps(facts, indent=2))

    def recipe(self) -> Recipe:
        """Return the run's recipe."""
        return Recipe.model_validate_json((self.path / "recipe.json").read_text())

    def facts(self) -> dict[str, Any]:
        """Return what ``create`` was given."""
        facts: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        return facts

    def weights(self, name: Literal["best", "last"]) -> Path:
        """Return the file of the best epoch's weights by validation accuracy, or of the last epoch's."""
        return self.path / f"{name}.safetensors"

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint; a reader sees the old one or the new one, never half of it."""
        part = self.checkpoint.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(trainer.state_dict(), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.checkpoint)

    def restore(self, trainer: Trainer) -> None:
        """Put the trainer where the checkpoint was taken, or leave it at the start where there is none yet."""
        if self.checkpoint.exists():
            trainer.load_state_dict(torch.load(self.checkpoint, map_location=trainer.device, weights_only=True))

    def rows(self) -> list[dict[str, float]]:
        """Return the log's rows so far."""
        if not self.log.exists():
            return []
        with self.log.open(newline="") as file:
            return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def add(self, result: EpochResult, trainer: Trainer) -> None:
        """Keep a finished epoch: its row, the curve and the weights.

        A row of the same or a later epoch, left by a run that was killed after writing it, is replaced.
        """
        rows = [row for row in self.rows() if row["epoch"] < result.epoch]
        best = max((row["valid_accuracy"] for row in rows), default=-1.0)
        rows.append(result.as_row())
        with self.log.with_suffix(".part").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[-1]))
            writer.writeheader()
            writer.writerows(rows)
        self.log.with_suffix(".part").replace(self.log)
        self._weights("last", result, trainer)
        if result.found.accuracy > best:
            self._weights("best", result, trainer)
            self._write("best.json", json.dumps({"epoch": result.epoch, **result.found.as_dict()}, indent=2))
            if len(trainer.train.classes) <= MOST_CLASSES:
                draw_confusion(result.found.confusion, trainer.train.classes, self.path / "confusion.png")
        draw_curve(rows, self.path / "curve.png", published_run(trainer.recipe.dataset))

    def board(self, first_epoch: int) -> SummaryWriter:
        """Return the writer of what TensorBoard shows; rows from ``first_epoch`` on are forgotten."""
        return SummaryWriter(str(self.path / "tensorboard"), purge_step=first_epoch)

    def _weights(self, name: Literal["best", "last"], result: EpochResult, trainer: Trainer) -> None:
        state, path = trainer.best_weights().state_dict(), self.weights(name)
        provenance = f"Epoch {result.epoch} of a run of this project's training."
        header = weights_header(trainer.recipe, trainer.train.classes, provenance)
        if header is None:
            tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
            write_whole(path, lambda part: save_file(tensors, part))
        else:
            save_weights(state, path, header)

    def _write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text + "\n")


def weights_header(recipe: Recipe, classes: Sequence[str], provenance: str) -> Header | None:
    """Return what a file of weights that this recipe trained says of itself, before calibration.

    None for weights that tell people apart: they answer nothing, and are only something to begin from.
    """
    if recipe.dataset == "identities":
        return None
    use = Use(
        dataset=recipe.dataset,
        preprocessing=recipe.preprocessing(),
        crop=get("ferplus").crop if recipe.dataset in LIE_AS_IN_FERPLUS else None,
        fusion_weight=recipe.fusion_weight,
        temperature=1.0,
    )
    expressions = tuple(Expression(name) for name in classes)
    return Header(classes=expressions, wiring=recipe.wiring, provenance=provenance, use=use)


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


def machine() -> dict[str, Any]:
    """Return what a reader needs to judge a time: processor, cores, versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def commit() -> str | None:
    """Return the commit that this code was checked out at, marked where the tree differs; None outside a checkout."""
    done = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def train(
    folder: RunFolder,
    trainer: Trainer,
    stop: Stop,
    console: Console,
    *,
    save_every: float,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Train until the last epoch or until any of the processes is asked to stop.

    Args:
        folder: takes what comes out, from the first process alone.
        trainer: where it begins.
        stop: whether this process was asked.
        console: for the progress.
        save_every: seconds between two checkpoints; at most this much work is lost when a run is killed.
        clock: seconds, monotonic.

    Returns:
        Whether the run is finished.
    """
    world, saved = trainer.world, clock()
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}  loss {task.fields[loss]:.4f}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} pictures/s"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, disable=not (console.is_terminal and world.first))
    with progress, folder.board(trainer.epoch) if world.first else nullcontext() as board:
        bar = progress.add_task(
            "",
            total=trainer.total_steps,
            completed=trainer.steps_done,
            loss=0.0,
            rate=0.0,
            epoch=0,
            epochs=trainer.recipe.epochs,
        )
        while not trainer.finished:
            began, first = clock(), trainer.step
            for loss in trainer.steps():
                rate = (trainer.step - first) * trainer.recipe.batch_size / max(clock() - began, 1e-9)
                progress.update(bar, completed=trainer.steps_done, loss=loss, rate=rate, epoch=trainer.epoch + 1)
                asked = any(world.total(stop.asked))
                if world.first and (asked or clock() - saved >= save_every):
                    folder.save(trainer)
                    saved = clock()
                    if not console.is_terminal:
                        console.print(
                            f"step {trainer.steps_done}/{trainer.total_steps}  loss {loss:.4f}  {rate:.1f} pictures/s"
                        )
                if asked:
                    return False
            result = trainer.end_epoch()
            if result is None or board is None:
                continue
            folder.add(result, trainer)
            for name, value in result.as_row().items():
                board.add_scalar(name, value, result.epoch)
            folder.save(trainer)
            saved = clock()
            console.print(
                f"epoch {result.epoch}: loss {result.train_loss:.4f}, train {result.train_accuracy:.2f} %, "
                f"{trainer.valid.split} {result.found.accuracy:.2f} %, macro recall {result.found.macro_recall:.2f} %, "
                f"{result.seconds:.0f} s{_authors_at(trainer.recipe.dataset, result.epoch)}"
            )
    return True


def _authors_at(dataset: str, epoch: int) -> str:
    """Return what the authors' run had reached after the same epoch, for the end of a line."""
    run = published_run(dataset)
    accuracy = None if run is None else run.at(epoch)
    return "" if accuracy is None else f"; the authors then had {accuracy:.2f} %"
