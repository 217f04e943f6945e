"""Rehearsal: a few steps of a run at each of its sizes, to say beforehand what the whole will take."""

import resource
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

import numpy as np
import torch

from training.loop import Trainer

WARM, TIMED = 1, 2
"""Steps at each size before the clock counts, and while it does."""

MOST_NAMED = 16
"""Classes that are counted one by one."""


def rehearse(trainer: Trainer) -> Iterator[str]:
    """Yield lines on what a run will take; the trainer is of no use for training after.

    Each input size runs three steps on the very pictures of its first epoch, and the judging one batch.
    """
    recipe = trainer.recipe
    yield f"data: {len(trainer.train)} training pictures ({trainer.train.protocol})"
    yield f"data: {len(trainer.valid)} {trainer.valid.split} pictures judge each epoch ({trainer.valid.protocol})"
    counts = np.bincount(trainer.train.labels, minlength=len(trainer.train.classes))
    if len(counts) <= MOST_NAMED:
        listed = ", ".join(f"{name} {count}" for name, count in zip(trainer.train.classes, counts, strict=True))
        yield f"classes: {listed}"
    else:
        yield f"classes: {len(counts)}, with {counts.min()} to {counts.max()} pictures each"
    yield f"steps: {trainer.steps_per_epoch} an epoch of {recipe.batch_size} pictures, {trainer.total_steps} in all"
    sizes = [recipe.preprocessing(epoch).input_size for epoch in range(recipe.epochs)]
    total = 0.0
    for size in sorted(set(sizes)):
        seconds = _step_seconds(trainer, sizes.index(size))
        epochs = sizes.count(size)
        total += seconds * trainer.steps_per_epoch * epochs
        yield f"at {size} px: {seconds:.2f} s a step, {recipe.batch_size / seconds:.0f} pictures/s, {epochs} epochs"
    few = trainer.valid.first(recipe.batch_size)
    began = trainer.clock()
    trainer.judge(few)
    judging = (trainer.clock() - began) / len(few) * len(trainer.valid)
    total += judging * recipe.epochs
    yield f"judging an epoch: {judging:.0f} s"
    yield f"memory: {_peak_memory(trainer) / 1e9:.1f} GB at most so far"
    yield f"the whole run: {timedelta(seconds=round(total))}"


def _step_seconds(trainer: Trainer, epoch: int) -> float:
    trainer.epoch, trainer.step = epoch, 0
    moments = [trainer.clock()]
    moments.extend(trainer.clock() for _ in islice(trainer.steps(), WARM + TIMED))
    timed = moments[-1 - TIMED :]
    return (timed[-1] - timed[0]) / (len(timed) - 1)


def _peak_memory(trainer: Trainer) -> float:
    if trainer.device.type == "cuda":
        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
