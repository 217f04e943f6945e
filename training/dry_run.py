"""Rehearsal: some steps of a run at each of its sizes, to say beforehand what the whole takes, and what bounds it."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

import numpy as np
import torch

from training.cuda_graphs import WARM_STEPS
from training.data.transforms import READ_AT_ONCE
from training.trainer import Trainer

WARM, TIMED = 1, 2
"""Steps at each size before the clock counts, and while it does, where nothing is read ahead."""

READ_AHEAD = 2
"""Batches that each reader process has ready before they are asked for (PyTorch's ``prefetch_factor``)."""

NOTICED = 0.1
"""Share of the steps' time spent waiting from which readers beside the network are what bounds it."""

MOST_NAMED = 16
"""Classes that are counted one by one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds.

    Attributes:
        step: a whole step of training.
        waited: the part of it in which the network waits for images.
    """

    step: float
    waited: float


def rehearse(trainer: Trainer, *, readers: int) -> Iterator[str]:
    """Yield lines on what a run will take; the trainer is of no use for training after.

    Each input size runs on the very images of its first epoch, for so many steps that those read ahead are used up
    before the clock counts; then some images are evaluated.

    Args:
        trainer: at its first step.
        readers: processes that read for it; 0 where it reads between steps.
    """
    recipe = trainer.recipe
    yield f"data: {len(trainer.train)} training images ({trainer.train.protocol})"
    yield f"data: {len(trainer.valid)} {trainer.valid.split} images judge each epoch ({trainer.valid.protocol})"
    counts = np.bincount(trainer.train.labels, minlength=len(trainer.train.classes))
    if len(counts) <= MOST_NAMED:
        listed = ", ".join(f"{name} {count}" for name, count in zip(trainer.train.classes, counts, strict=True))
        yield f"classes: {listed}"
    else:
        yield f"classes: {len(counts)}, with {counts.min()} to {counts.max()} images each"
    yield f"steps: {trainer.steps_per_epoch} an epoch of {recipe.batch_size} images, {trainer.total_steps} in all"
    sizes = [recipe.preprocessing(epoch).input_size for epoch in range(recipe.epochs)]
    waiting, training = 0.0, 0.0
    for size in sorted(set(sizes)):
        pace = step_pace(trainer, sizes.index(size), readers)
        epochs = sizes.count(size)
        training += pace.step * trainer.steps_per_epoch * epochs
        waiting += pace.waited * trainer.steps_per_epoch * epochs
        yield (
            f"at {size} px: {pace.step:.2f} s a step, {pace.waited:.2f} s of it waiting for images, "
            f"{recipe.batch_size / pace.step:.0f} images/s, {epochs} epochs"
        )
    some = trainer.valid.first(max(recipe.batch_size, READ_AT_ONCE * READ_AHEAD * readers))
    began = trainer.clock()
    trainer.judge(some)
    evaluating = (trainer.clock() - began) / len(some) * len(trainer.valid) * recipe.epochs
    yield f"judging an epoch: {evaluating / recipe.epochs:.0f} s"
    yield f"memory: {peak_memory(trainer.device)}"
    yield f"bound by: {bound(waiting, training, evaluating, beside=readers > 0)}"
    yield f"the whole run: {timedelta(seconds=round(training + evaluating))}"


def step_pace(trainer: Trainer, epoch: int, readers: int) -> Pace:
    """Return how long a step takes once what was read ahead is used up; in a shorter epoch, without its first step.

    Args:
        trainer: whose epoch is begun.
        epoch: which one, counted from 0.
        readers: processes that read for it.
    """
    # Readers deliver in turns, so the clock counts whole rounds of them.
    first = WARM if trainer.device.type == "cpu" else WARM_STEPS + 1  # a graph is captured after so many
    warm, timed = first + READ_AHEAD * readers, max(TIMED, READ_AHEAD * readers)
    if trainer.steps_per_epoch < warm + timed:
        warm, timed = min(WARM, trainer.steps_per_epoch - 1), trainer.steps_per_epoch
    trainer.epoch, trainer.step = epoch, 0
    moments = [(trainer.clock(), trainer.waited)]
    for loss in islice(trainer.steps(), warm + timed):
        float(loss)  # waits until the device has done the step, so that only what it waits for counts as waiting
        moments.append((trainer.clock(), trainer.waited))
    (began, waited), (ended, waited_after) = moments[warm], moments[-1]
    steps = len(moments) - 1 - warm
    return Pace((ended - began) / steps, (waited_after - waited) / steps)


def bound(waiting: float, training: float, evaluating: float, *, beside: bool) -> str:
    """Return what bounds a run: readers, network or evaluation, with the shares of its time.

    Args:
        waiting: seconds in which the network waits for images.
        training: seconds of all steps, waiting included.
        evaluating: seconds of all evaluations.
        beside: whether images are read beside the network, which then waits only where readers are slower than it.
    """
    total = training + evaluating
    if evaluating > training:
        what = "evaluation"
    elif waiting > training * (NOTICED if beside else 0.5):
        what = "readers"
    else:
        what = "network"
    shares = (("waiting for readers", waiting), ("network", training - waiting), ("evaluation", evaluating))
    return f"{what} ({', '.join(f'{name} {100 * seconds / total:.0f} %' for name, seconds in shares)})"


def peak_memory(device: torch.device) -> str:
    """Return the most memory that was used so far, on the device or in this process, as words."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB at most so far"
    if sys.platform == "win32":
        return "not known on this platform"
    # Imported here: Windows has no such module.
    import resource  # noqa: PLC0415

    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB at most so far"
