"""Memory: what the processes of one service share: slots for faces and canvases, and numbers that one process writes.

It has no name (memfd), so each process that has the descriptor sees it; it is gone with the last one. Each number is
eight aligned bytes with a single writer, so there are no locks that a killed process could hold.
"""

import mmap
import os
from dataclasses import dataclass
from math import prod
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import numpy.typing as npt

from manet.backends.base import Logits
from manet.vision.face_network import MOST_CANDIDATES, Candidates, Floats
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import LARGEST_CANVAS

COUNTS = (
    *("uploads", "images", "bytes", "ahead", "explanations"),  # see service.admission.Kind
    "faces",  # handed to the engine's process and not returned
    *("requests", "streams"),  # of clients, see service.places
    "gone",  # connections from the supervisor that have ended
    *("detector_failing", "detections_failed"),
)
"""What a front end counts."""

ENGINE = ("alive_until", "running", "started", "depth", "completed")
"""What the engine's process reports: until when it is trusted, the size and the start of the running batch (seconds of
the clock), faces that wait, and batches that were completed."""

_ENGINE = {name: place for place, name in enumerate(ENGINE)}

ENGINE_BEATS, EXPLAINER_BEATS = -2, -1
"""Places of these processes among the beats, behind those of the front ends."""

CLIENTS = 65_536
"""Counters of clients: they are distinguished by a hash into so many, and two that meet in one share it."""

BUCKETS = 16
"""Batch times, by the binary logarithm of the bucket's size."""

SERIES = 1024
"""Series of metrics that a process can have: with 18 routes it has some 400."""

KEY = 200
"""Bytes of a series' name and labels."""

NUMBERS = 15
"""Of a candidate: its score, four offsets and ten of its points."""

VALUES = 16 * SERIES
"""Numbers of all series of a process: a histogram has one for each bucket, and a sum."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How much of everything there is.

    Attributes:
        front_ends: how many.
        slots: faces that one of them can have handed in at once.
        side: of the network's input, in pixels.
        classes: logits of a face.
        canvases: that one of them can have handed in at once, for faces to be found on; none where it has a detector.
    """

    front_ends: int
    slots: int
    side: int
    classes: int
    canvases: int = 0

    def parts(self) -> dict[str, tuple[type[Any] | str, tuple[int, ...]]]:
        """Return the type and the shape of each part, in their order."""
        n, faces = self.front_ends, (self.front_ends, self.slots)
        looks = (self.front_ends, self.canvases)
        return {
            "counts": (np.int64, (len(COUNTS), n)),
            "engine": (np.float64, (len(ENGINE),)),
            "beats": (np.int64, (n + 2,)),  # of each process: grows as long as it does not hang
            "restarts": (np.int64, (1,)),  # of the engine's process; the supervisor's
            "times": (np.float64, (BUCKETS,)),  # seconds; 0 where none was measured
            "requests": (np.int64, (n, CLIENTS)),  # of each client, in flight
            "streams": (np.int64, (n, CLIENTS)),  # of each client, open
            "windows": (np.int64, (n, CLIENTS, 3)),  # of each client: number of the window, hits in it, hits before it
            "used": (np.int64, (n + 1,)),  # series; the last row of these is the engine's
            "keys": (f"S{KEY}", (n + 1, SERIES)),
            "starts": (np.int64, (n + 1, SERIES)),  # of each series, in its row of values
            "values": (np.float64, (n + 1, VALUES)),
            "logits": (np.float32, (*faces, self.classes)),
            "pixels": (np.uint8, (*faces, self.side, self.side, 3)),
            "canvases": (np.uint8, (*looks, LARGEST_CANVAS * 3)),
            "places": (np.int64, (*looks, MOST_CANDIDATES)),
            "numbers": (np.float32, (*looks, MOST_CANDIDATES, NUMBERS)),
        }


class SharedMemory:
    """One process's view of it; it can be an argument of a process that is being started.

    Args:
        fd: descriptor of the memory.
        layout: how much of everything there is.
    """

    def __init__(self, fd: int, layout: Layout) -> None:
        self.layout = layout
        self._fd = fd
        offsets, size = _offsets(layout)
        memory = mmap.mmap(fd, size)

        def part(name: str) -> npt.NDArray[Any]:
            dtype, shape = layout.parts()[name]
            return np.ndarray(shape, dtype, buffer=memory, offset=offsets[name])

        # Numbers that every request reads and writes are plain ones: a memoryview takes a tenth of NumPy's time.
        self.counts = {name: row.data for name, row in zip(COUNTS, part("counts"), strict=True)}
        self._engine: memoryview[float] = part("engine").data  # type: ignore[assignment]
        self.beats = part("beats").data
        self.restarts = part("restarts").data
        self.times: memoryview[float] = part("times").data  # type: ignore[assignment]
        self.requests = [row.data for row in part("requests")]
        self.streams = [row.data for row in part("streams")]
        self.windows = [row.data for row in part("windows")]
        self.used = part("used").data
        self.keys = part("keys")
        self.starts = part("starts")
        self.values = [row.data for row in part("values")]
        self.logits: Logits = part("logits")
        self.pixels: Pixels = part("pixels")
        self._canvases: Pixels = part("canvases")
        self._places: npt.NDArray[np.int64] = part("places")
        self._numbers: Floats = part("numbers")

    @classmethod
    def create(cls, layout: Layout) -> "SharedMemory":
        """Return new memory, all zero; pages that are never touched take no space."""
        fd = os.memfd_create("manet")
        os.ftruncate(fd, _offsets(layout)[1])
        return cls(fd, layout)

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (DupFd(self._fd), self.layout)

    def engine(self, name: str) -> float:
        """Return what the engine's process reports."""
        return self._engine[_ENGINE[name]]

    def report(self, **numbers: float) -> None:
        """Write what the engine's process reports; only that does, and the supervisor once it has ended."""
        for name, number in numbers.items():
            self._engine[_ENGINE[name]] = number

    def canvas(self, front_end: int, slot: int, height: int, width: int) -> Pixels:
        """Return a slot's canvas of that size, (height, width, 3)."""
        return self._canvases[front_end, slot, : height * width * 3].reshape(height, width, 3)

    def put_candidates(self, front_end: int, slot: int, found: Candidates) -> None:
        """Write what was found on a slot's canvas."""
        count = len(found.places)
        self._places[front_end, slot, :count] = found.places
        columns = (found.scores[:, None], found.offsets, found.points)
        self._numbers[front_end, slot, :count] = np.concatenate(columns, axis=1)

    def candidates(self, front_end: int, slot: int, count: int) -> Candidates:
        """Return a copy of what was found on a slot's canvas."""
        numbers = self._numbers[front_end, slot, :count].copy()
        return Candidates(self._places[front_end, slot, :count].copy(), numbers[:, 0], numbers[:, 1:5], numbers[:, 5:])

    def forget(self, front_end: int) -> None:
        """Give back what a front end held that has ended; requests that its clients sent still count in their rate."""
        for row in self.counts.values():
            row[front_end] = 0
        for rows in (self.requests, self.streams):
            held = np.asarray(rows[front_end])
            held[held != 0] = 0


def _attach(fd: Any, layout: Layout) -> SharedMemory:
    return SharedMemory(fd.detach(), layout)


def _offsets(layout: Layout) -> tuple[dict[str, int], int]:
    """Return where each part begins, in bytes, and where the last ends."""
    offsets, end = {}, 0
    for name, (dtype, shape) in layout.parts().items():
        offsets[name] = end
        end += -(-np.dtype(dtype).itemsize * prod(shape) // 64) * 64
    return offsets, end
