"""Fit: epochs and steps of a trainer, logged and saved to a run directory, until the end or a request to stop."""

import time
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from manet.stop import Stop
from training.eval.published import published_run
from training.run_dir import RunDir
from training.trainer import Trainer


def train(
    folder: RunDir,
    trainer: Trainer,
    stop: Stop,
    console: Console,
    *,
    save_every: float,
    until: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Train until the last epoch, or until any process receives a request to stop.

    Args:
        folder: where the main process writes the results.
        trainer: at the step to continue from.
        stop: this process's requests to stop.
        console: for the progress.
        save_every: seconds between two checkpoints; at most this much work is lost when a run is killed.
        until: the clock's reading at which the run stops as if requested, or None.
        clock: seconds, monotonic.

    Returns:
        Whether the run is finished.
    """
    world, saved = trainer.world, clock()
    if world.is_main:
        folder.remove_temporary_files()
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}  loss {task.fields[loss]:.4f}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} images/s"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, disable=not (console.is_terminal and world.is_main))
    with progress, folder.tensorboard(trainer.epoch) if world.is_main else nullcontext() as tensorboard:
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
                stopping = any(world.all_reduce_sum(stop.asked or (until is not None and clock() >= until)))
                if world.is_main and (stopping or clock() - saved >= save_every):
                    folder.save(trainer)
                    saved = clock()
                    if not console.is_terminal:
                        console.print(
                            f"step {trainer.steps_done}/{trainer.total_steps}  loss {loss:.4f}  {rate:.1f} images/s"
                        )
                if stopping:
                    return False
            result = trainer.end_epoch()
            if result is None or tensorboard is None:
                continue
            folder.add_epoch(result, trainer)
            for name, value in result.as_row().items():
                tensorboard.add_scalar(name, value, result.epoch)
            if trainer.finished or clock() - saved >= save_every:
                folder.save(trainer)
                saved = clock()
            evaluation = result.evaluation
            console.print(
                f"epoch {result.epoch}: loss {result.train_loss:.4f}, train {result.train_accuracy:.2f} %, "
                f"{trainer.valid.split} {evaluation.accuracy:.2f} %, macro recall {evaluation.macro_recall:.2f} %, "
                f"{result.seconds:.0f} s{_published_at(trainer.recipe.dataset, result.epoch)}"
            )
    return True


def _published_at(dataset: str, epoch: int) -> str:
    """Return the accuracy of the authors' run after the same epoch, as the end of a line."""
    run = published_run(dataset)
    accuracy = None if run is None else run.at(epoch)
    return "" if accuracy is None else f"; the authors then had {accuracy:.2f} %"
