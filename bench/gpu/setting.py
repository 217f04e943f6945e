"""Setting: where a step runs and how much of everything it does."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from manet.backends.selection import Device, Precision

_CYCLE = "schedule.cycles=[{epochs=2, max_lr=0.01, warmup=0.1}]"
_NARROW = ("epochs=2", "input_size=48", "batch_size=4", "width=16")

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "float16")
"""The number formats that the CUDA backend runs in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much a step does.

    Attributes:
        seconds: for which each call is repeated.
        load_seconds: of each load of the service.
        clients: of the service, for each front end.
        served_batches: the service's largest batches, each measured with several front ends.
        sizes: batch sizes, ascending.
        sides: input sizes of the network, px.
        noise: random images on which answers are compared; ``batches`` of a random size are drawn from them.
        batches: see ``noise``.
        matrix: rows and columns of the matrices that are multiplied.
        copied: bytes that are copied.
        training: recipes by name, each with its changes; ``epochs=2`` is one of them.
        steps: of training in each epoch, at least 2.
        threads: of the processor for the network where it runs there; None means all.
    """

    seconds: float
    load_seconds: float
    clients: int
    served_batches: tuple[int, ...]
    sizes: tuple[int, ...]
    sides: tuple[int, ...]
    noise: int
    batches: int
    matrix: int
    copied: int
    training: Mapping[str, tuple[str, ...]]
    steps: int
    threads: int | None


FULL = Scale(
    seconds=0.5,
    load_seconds=4.0,
    clients=64,
    served_batches=(32, 256),
    sizes=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    sides=(80, 224),
    noise=300,
    batches=60,
    matrix=8192,
    copied=2**31,
    training=MappingProxyType({"ferplus": ("epochs=2", "epoch_sizes=[80, 80]", _CYCLE), "raf_db": ("epochs=2",)}),
    steps=40,
    threads=None,
)
TINY = Scale(
    seconds=0.05,
    load_seconds=1.0,
    clients=4,
    served_batches=(4,),
    sizes=(1, 2),
    sides=(80,),
    noise=2,
    batches=1,
    matrix=128,
    copied=2**20,
    training=MappingProxyType({"ferplus": (*_NARROW, "epoch_sizes=[48, 48]", _CYCLE), "raf_db": _NARROW}),
    steps=3,
    threads=1,  # where others use the processors, too, two threads wait for each other most of the time
)
"""A little of everything, to see that it runs."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a step runs, and its scale.

    Attributes:
        device: where the network runs.
        scale: how much of everything.
        folder: for logs and requests; it exists.
    """

    device: Device
    scale: Scale
    folder: Path


Row = dict[str, Any]
"""A finding as JSON types. ``what`` says what was found; ``ok``, where it is there, whether it is as it should be."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the check.

    Attributes:
        measure: yields rows as soon as they are found.
        seconds: that it may take.
    """

    measure: Callable[[Setting], Iterator[Row]]
    seconds: float


Ended = Literal["done", "failed", "out of time"]
"""How a step ended; ``failed`` is also one with a row that is not ``ok``."""
