"""Run directory: recipe, log, curve, and the checkpoint from which a stopped run resumes.

``recipe.json``, ``run.json``     recipe, data, machine and versions
``checkpoint.pt``                 the whole state, replaced atomically
``log.csv``, ``curve.png``        one row per epoch, and its plot
``tensorboard/``                  the same for TensorBoard
``best.json``, ``confusion.png``  the best epoch's evaluation
``best.safetensors``              the weights of the epoch with the highest validation accuracy
``last.safetensors``              the weights of the latest epoch
"""

import csv
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from manet.errors import CheckpointError
from manet.files import atomic_write, remove_temporary_files
from manet.labels import Expression
from manet.weights.checkpoint import save_weights, unpickle
from manet.weights.header import Header, Use
from manet.weights.registry import get
from training.data.datasets import Name
from training.errors import TrainingError
from training.eval.plots import MAX_CLASSES, draw_confusion, draw_curve
from training.eval.published import published_run
from training.recipe import Recipe, validation_message
from training.trainer import EpochResult, Trainer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MAX_ERROR_CHARS = 200
"""Characters of PyTorch's message about a checkpoint that are shown; it may name every key of a network."""

FERPLUS_ALIGNED: frozenset[Name] = frozenset({"ferplus", "fer2013", "caer_s"})
"""Data sets whose faces are aligned as in FER+: the same images, and those that ``prepare`` aligned."""


COLUMNS = (
    *("epoch", "learning_rate", "train_loss", "train_accuracy", "valid_cross_entropy", "valid_accuracy"),
    *("valid_macro_recall", "seconds"),
)
"""Columns of ``log.csv``."""

_FILES = ("recipe.json", "run.json", "checkpoint.pt", "log.csv", "best.json", "best.safetensors", "last.safetensors")
"""Files that are written atomically."""


class RunError(TrainingError):
    """A folder contains no run, contains one already, or contains a broken one."""


class RunDir:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.log = path / "log.csv"

    def create(self, recipe: Recipe, facts: dict[str, Any]) -> None:
        """Create the folder of a new run.

        Raises:
            RunError: if there is a run in it already.
        """
        self.require_free()
        self.path.mkdir(parents=True, exist_ok=True)
        self._write("recipe.json", recipe.model_dump_json(indent=2))
        self._write("run.json", json.dumps(facts, indent=2))

    def require_free(self) -> None:
        """Make sure that a new run can be created here.

        Raises:
            RunError: if there is a run in the folder already.
        """
        if (self.path / "recipe.json").exists():
            raise RunError(f"{self.path} contains a run already; resume it with --resume, or choose another folder")

    def recipe(self) -> Recipe:
        """Return the run's recipe.

        Raises:
            RunError: if there is no run, or its recipe is not valid.
        """
        try:
            return Recipe.model_validate_json(self._read("recipe.json"))
        except ValidationError as error:
            raise RunError(f"{self.path / 'recipe.json'}: {validation_message(error)}") from error

    def facts(self, *required: str) -> dict[str, Any]:
        """Return the facts that ``create`` was given.

        Args:
            required: names that must be in them, such as ``data`` or ``train.n``.

        Raises:
            RunError: if there is no run, or its ``run.json`` is broken or lacks one of the names.
        """
        path = self.path / "run.json"
        try:
            facts = json.loads(self._read("run.json"))
        except ValueError as error:  # not JSON, or not UTF-8
            raise RunError(f"{path} is not JSON: {error}") from error
        for name in required:
            place = facts
            for key in name.split("."):
                if not isinstance(place, dict) or key not in place:
                    raise RunError(f"{path} lacks {name}")
                place = place[key]
        return dict(facts)

    def update_facts(self, **facts: Any) -> None:
        """Write facts that have changed since ``create``, such as the folder of the data, and keep the others.

        Raises:
            RunError: as ``facts`` does.
        """
        before = self.facts()
        if before != (after := before | facts):
            self._write("run.json", json.dumps(after, indent=2))

    def weights(self, name: Literal["best", "last"]) -> Path:
        """Return the file of the best epoch's weights by validation accuracy, or of the last epoch's."""
        return self.path / f"{name}.safetensors"

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint; a reader sees the old one or the new one, never half of it."""
        atomic_write(self.checkpoint, lambda part: torch.save(trainer.state_dict(), part))

    def restore(self, trainer: Trainer) -> None:
        """Restore the trainer from the checkpoint, or leave it at the start if there is none yet.

        Raises:
            CheckpointError: if the checkpoint cannot be read, or is not one of this run.
        """
        if not self.checkpoint.exists():
            return
        # Read to the CPU, where the random state has to be; the trainer copies parameters to its device.
        state = unpickle(self.checkpoint)
        try:
            trainer.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            message = " ".join(str(error).split())[:MAX_ERROR_CHARS]
            raise CheckpointError(
                f"{self.checkpoint}: expected a checkpoint of this run, found another: {message}"
            ) from error

    def rows(self) -> list[dict[str, float]]:
        """Return the log's rows so far.

        Raises:
            RunError: if the log is broken, or has other columns than ``COLUMNS``.
        """
        if not self.log.exists():
            return []
        try:
            with self.log.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file, restval="")
                if tuple(reader.fieldnames or ()) != COLUMNS:
                    raise RunError(f"{self.log}: expected the columns {', '.join(COLUMNS)}")
                return [{key: _number(row[key]) for key in COLUMNS} for row in reader]
        except (ValueError, csv.Error) as error:
            raise RunError(f"{self.log} is broken: {error}") from error

    def add_epoch(self, result: EpochResult, trainer: Trainer) -> None:
        """Record a finished epoch: its row, the curve and the weights.

        A row of the same or a later epoch, left by a run that was killed after writing it, is replaced.
        """
        rows = [row for row in self.rows() if row["epoch"] < result.epoch]
        best = max((row["valid_accuracy"] for row in rows), default=-1.0)
        rows.append(result.as_row())
        atomic_write(self.log, partial(_write_rows, rows))
        self._weights("last", result, trainer)
        # As the log rounds it, so that of equal epochs the first stays the best.
        if rows[-1]["valid_accuracy"] > best:
            self._weights("best", result, trainer)
            self._write("best.json", json.dumps({"epoch": result.epoch, **result.evaluation.as_dict()}, indent=2))
            if len(trainer.train.classes) <= MAX_CLASSES:
                draw_confusion(result.evaluation.confusion, trainer.train.classes, self.path / "confusion.png")
        draw_curve(rows, self.path / "curve.png", published_run(trainer.recipe.dataset))

    def remove_temporary_files(self) -> None:
        """Remove the temporary files of a killed run; no other process may write to the folder."""
        for name in _FILES:
            remove_temporary_files(self.path / name)

    def tensorboard(self, first_epoch: int) -> "SummaryWriter":
        """Return the writer of TensorBoard events; earlier rows from ``first_epoch`` on are purged."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - only a run that trains writes any

        return SummaryWriter(str(self.path / "tensorboard"), purge_step=first_epoch)

    def _weights(self, name: Literal["best", "last"], result: EpochResult, trainer: Trainer) -> None:
        state, path = trainer.best_weights().state_dict(), self.weights(name)
        provenance = f"Epoch {result.epoch} of a run of this project's training."
        header = weights_header(trainer.recipe, trainer.train.classes, provenance)
        if header is None:
            tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
            atomic_write(path, lambda part: save_file(tensors, part))
        else:
            save_weights(state, path, header)

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise RunError(f"{self.path} contains no run: it lacks {name}") from error

    def _write(self, name: str, text: str) -> None:
        atomic_write(self.path / name, lambda part: part.write_text(text + "\n", encoding="utf-8"))


def _write_rows(rows: Sequence[Mapping[str, float]], part: Path) -> None:
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def weights_header(recipe: Recipe, classes: Sequence[str], provenance: str) -> Header | None:
    """Return the header of weights that this recipe trained, before calibration.

    None for weights of an identity stage: they predict no expressions, and only serve as initial weights.
    """
    if recipe.dataset == "identities":
        return None
    use = Use(
        dataset=recipe.dataset,
        preprocessing=recipe.preprocessing(),
        crop=get("ferplus").crop if recipe.dataset in FERPLUS_ALIGNED else None,
        fusion_weight=recipe.fusion_weight,
        temperature=1.0,
    )
    expressions = tuple(Expression(name) for name in classes)
    return Header(classes=expressions, wiring=recipe.wiring, provenance=provenance, use=use)


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)
