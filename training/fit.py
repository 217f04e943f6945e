"""Fit: epochs and steps of a trainer, logged and saved to a run directory, until the end or a request to stop."""

import time
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from manet.stop import Stop
from training.eval.published import published_run
from training.run_dir import RunFolder
from training.trainer import Trainer


def train(
    folder: RunFolder,
    trainer: Trainer,
    stop: Stop,
    console: Console,
    *,
    save_every: float,
    until: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Train until the last epoch or until any of the processes is asked to stop.

    Args:
        folder: takes what comes out, from the first process alone.
        trainer: where it begins.
        stop: whether this process was asked.
        console: for the progress.
        save_every: seconds between two checkpoints; at most this much work is lost when a run is killed.
        until: the clock's reading at which the run stops as if it were asked to, or None.
        clock: seconds, monotonic.

    Returns:
        Whether the run is finished.
    """
    world, saved = trainer.world, clock()
    if world.first:
        folder.remove_temporary_files()
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}  loss {task.fields[loss]:.4f}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} images/s"),
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
                asked = any(world.total(stop.asked or (until is not None and clock() >= until)))
                if world.first and (asked or clock() - saved >= save_every):
                    folder.save(trainer)
                    saved = clock()
                    if not console.is_terminal:
                        console.print(
                            f"step {trainer.steps_done}/{trainer.total_steps}  loss {loss:.4f}  {rate:.1f} images/s"
                        )
                if asked:
                    return False
            result = trainer.end_epoch()
            if result is None or board is None:
                continue
            folder.add(result, trainer)
            for name, value in result.as_row().items():
                board.add_scalar(name, value, result.epoch)
            if trainer.finished or clock() - saved >= save_every:
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
