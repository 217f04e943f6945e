"""Dry run: time some steps at each input size, and estimate a run's duration, memory and bottleneck."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

import numpy as np
import torch

from training.cuda_graphs import WARMUP_STEPS
from training.data.transforms import READ_BATCH
from training.trainer import Trainer

UNTIMED_STEPS, TIMED_STEPS = 1, 2
"""Steps at each size before the timer starts, and while it runs, where nothing is read ahead."""

READ_AHEAD = 2
"""Batches that each worker process reads ahead (PyTorch's ``prefetch_factor``)."""

WAITING_THRESHOLD = 0.1
"""Share of the steps' time spent waiting from which data loading in worker processes is the bottleneck."""

MAX_LISTED_CLASSES = 16
"""With more classes than this the counts are summarised."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """How long a step takes, in seconds.

    Attributes:
        step: a whole step of training.
        waited: the part of it in which the network waits for images.
    """

    step: float
    waited: float


def dry_run_report(trainer: Trainer, *, workers: int) -> Iterator[str]:
    """Yield lines on what a run will take; the trainer must not be used for training afterwards.

    Each input size runs on the images of its first epoch, for enough steps that batches read ahead are used up before
    the timer starts; then some images are evaluated.

    Args:
        trainer: at its first step.
        workers: worker processes that read images; 0 reads between steps.
    """
    recipe = trainer.recipe
    yield f"data: {len(trainer.train)} training images ({trainer.train.protocol})"
    yield f"data: {len(trainer.valid)} {trainer.valid.split} images for evaluation ({trainer.valid.protocol})"
    counts = np.bincount(trainer.train.labels, minlength=len(trainer.train.classes))
    if len(counts) <= MAX_LISTED_CLASSES:
        listed = ", ".join(f"{name} {count}" for name, count in zip(trainer.train.classes, counts, strict=True))
        yield f"classes: {listed}"
    else:
        yield f"classes: {len(counts)}, with {counts.min()} to {counts.max()} images each"
    steps = f"{trainer.steps_per_epoch} per epoch, {trainer.total_steps} in total"
    yield f"steps: {steps}, batches of {recipe.batch_size} images"
    sizes = [recipe.preprocessing(epoch).input_size for epoch in range(recipe.epochs)]
    waiting, training = 0.0, 0.0
    for size in sorted(set(sizes)):
        time = measure_step_time(trainer, sizes.index(size), workers)
        epochs = sizes.count(size)
        training += time.step * trainer.steps_per_epoch * epochs
        waiting += time.waited * trainer.steps_per_epoch * epochs
        yield (
            f"at {size} px: {time.step:.2f} s per step, {time.waited:.2f} s of it waiting for images, "
            f"{recipe.batch_size / time.step:.0f} images/s, {epochs} epochs"
        )
    some = trainer.valid.first(max(recipe.batch_size, READ_BATCH * READ_AHEAD * workers))
    began = trainer.clock()
    trainer.evaluate(some)
    evaluating = (trainer.clock() - began) / len(some) * len(trainer.valid) * recipe.epochs
    yield f"evaluation of an epoch: {evaluating / recipe.epochs:.0f} s"
    yield f"memory: {peak_memory(trainer.device)}"
    yield f"bottleneck: {bottleneck(waiting, training, evaluating, parallel=workers > 0)}"
    yield f"total: {timedelta(seconds=round(training + evaluating))}"


def measure_step_time(trainer: Trainer, epoch: int, workers: int) -> StepTime:
    """Return how long a step takes once batches read ahead are used up; in a shorter epoch, without its first step.

    Args:
        trainer: starts the epoch.
        epoch: which one, counted from 0.
        workers: worker processes that read images.
    """
    # Workers deliver in turns, so whole rounds of them are timed.
    untimed = UNTIMED_STEPS if trainer.device.type == "cpu" else WARMUP_STEPS + 1  # a graph is captured after so many
    untimed, timed = untimed + READ_AHEAD * workers, max(TIMED_STEPS, READ_AHEAD * workers)
    if trainer.steps_per_epoch < untimed + timed:
        untimed, timed = min(UNTIMED_STEPS, trainer.steps_per_epoch - 1), trainer.steps_per_epoch
    trainer.epoch, trainer.step = epoch, 0
    moments = [(trainer.clock(), trainer.waited)]
    for loss in islice(trainer.steps(), untimed + timed):
        float(loss)  # synchronises with the device, so that only data loading counts as waiting
        moments.append((trainer.clock(), trainer.waited))
    (began, waited), (ended, waited_after) = moments[untimed], moments[-1]
    steps = len(moments) - 1 - untimed
    return StepTime((ended - began) / steps, (waited_after - waited) / steps)


def bottleneck(waiting: float, training: float, evaluating: float, *, parallel: bool) -> str:
    """Return the bottleneck of a run, data loading, network or evaluation, with the shares of its time.

    Args:
        waiting: seconds in which the network waits for images.
        training: seconds of all steps, waiting included.
        evaluating: seconds of all evaluations.
        parallel: whether worker processes read images, so that the network waits only where they are slower.
    """
    total = training + evaluating
    if evaluating > training:
        name = "evaluation"
    elif waiting > training * (WAITING_THRESHOLD if parallel else 0.5):
        name = "data loading"
    else:
        name = "network"
    shares = (("waiting for images", waiting), ("network", training - waiting), ("evaluation", evaluating))
    return f"{name} ({', '.join(f'{part} {100 * seconds / total:.0f} %' for part, seconds in shares)})"


def peak_memory(device: torch.device) -> str:
    """Return the peak memory so far, of the device or of this process, as text."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB peak so far"
    if sys.platform == "win32":
        return "unknown on this platform"
    # Imported here: Windows has no such module.
    import resource  # noqa: PLC0415

    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB peak so far"
