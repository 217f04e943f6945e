"""The learning rate as a pure function of the step."""

import math

from training.recipe import Cycles, Step


def learning_rate(schedule: Cycles | Step, step: int, *, steps_per_epoch: int) -> float:
    """Return the rate of one step, counted from 0.

    Raises:
        ValueError: if the step lies behind the last cycle.
    """
    if isinstance(schedule, Step):
        return schedule.rate * schedule.gamma ** (step // steps_per_epoch // schedule.every)
    for cycle in schedule.cycles:
        total = steps_per_epoch * cycle.epochs
        if step < total:
            rise = cycle.warmup * total
            if step < rise:
                return cycle.peak * (step + 1) / rise
            return cycle.peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / (total - rise)))
        step -= total
    raise ValueError(f"the schedule ended {step} steps ago")
