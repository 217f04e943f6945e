"""Bare: a network without a service around it, batch after batch."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from manet.backends.base import Logits
from manet.vision.preprocess import Pixels

Infer = Callable[[Pixels], Logits]

SIZES = (1, 2, 4, 8, 16, 32)
"""The batch sizes that are measured where none are requested."""

WARM = 2.0
"""Seconds of the largest batches before anything is measured: a backend may compile in the background."""


def noise(count: int, side: int) -> Pixels:
    """Return network inputs of noise, always the same, (count, side, side, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def bare(infer: Infer, side: int, seconds: float, sizes: Sequence[int] = SIZES) -> dict[int, dict[str, float]]:
    """Return what batches of each size cost.

    Args:
        infer: runs the network.
        side: of its input, px.
        seconds: for which each size is run.
        sizes: of the batches.
    """
    repeated(partial(infer, noise(max(sizes), side)), max(sizes), WARM)
    found = {}
    for size in sizes:
        batch = noise(size, side)
        found[size] = repeated(partial(infer, batch), size, seconds)
    return found


def repeated(call: Callable[[], object], size: int, seconds: float) -> dict[str, float]:
    """Return what a call costs that computes with ``size`` images, after one that is not measured."""
    took = []
    call()
    cpu, began = time.process_time(), time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        call()
        took.append(time.perf_counter() - now)
    spent = time.process_time() - cpu
    return {
        "images_per_second": round(size * len(took) / sum(took), 2),
        "cpu_ms_per_image": round(1e3 * spent / (size * len(took)), 4),
        "median_ms": round(1e3 * float(np.median(took)), 3),
    }
