"""The learning rate as a pure function of the step."""

import math

from training.recipe import OneCycle, Step


def learning_rate(schedule: OneCycle | Step, step: int, *, steps_per_epoch: int, epochs: int) -> float:
    """Return the rate of one step, counted from 0."""
    if isinstance(schedule, Step):
        return schedule.rate * schedule.gamma ** (step // steps_per_epoch // schedule.every)
    total = steps_per_epoch * epochs
    rise = schedule.warmup * total
    if step < rise:
        return schedule.peak * (step + 1) / rise
    return schedule.peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / (total - rise)))
