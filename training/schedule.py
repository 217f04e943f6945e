"""The learning rate as a pure function of the step."""

import math

from training.recipe import Cycles, Step


def learning_rate(schedule: Cycles | Step, step: int, *, steps_per_epoch: int) -> float:
    """Return the learning rate of one step, counted from 0.

    Raises:
        ValueError: if the step is after the last cycle.
    """
    if isinstance(schedule, Step):
        return schedule.lr * schedule.gamma ** (step // steps_per_epoch // schedule.step_size)
    for cycle in schedule.cycles:
        total = steps_per_epoch * cycle.epochs
        if step < total:
            warmup = cycle.warmup * total
            if step < warmup:
                return cycle.max_lr * (step + 1) / warmup
            return cycle.max_lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        step -= total
    raise ValueError(f"the schedule ended {step} steps ago")
