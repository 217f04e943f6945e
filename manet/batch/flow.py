"""Flow: items through threads and, in batches across them, through the network; in their order, and never many at once.

What is held at any time is bounded: a few items in the threads, and a group that is about to be classified.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

from manet.recognizer import BATCH, FaceInput, RecognizedFace, Recognizer
from manet.vision.preprocess import Pixels

GROUP_ITEMS, GROUP_BYTES = 64, 256 * 1024 * 1024
"""A group is classified no later than this, even if its faces fill no batch: images without faces, large images."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class WithFaces(Protocol):
    """What waits for the network."""

    @property
    def faces(self) -> Sequence[FaceInput]:
        """Its faces, if it has any."""

    @property
    def image(self) -> Pixels | None:
        """The image itself, where it is kept."""


Waiting = TypeVar("Waiting", bound=WithFaces)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield each item's result, in order, with at most ``ahead`` of them begun or done and not taken."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def classified(items: Iterable[Waiting], recognizer: Recognizer) -> Iterator[tuple[Waiting, list[RecognizedFace]]]:
    """Yield each item with its faces read, in order; faces of several items share a batch."""
    for group in _groups(items):
        inputs = [face for item in group for face in item.faces]
        read = iter(recognizer.read_all(inputs))
        for item in group:
            yield item, list(islice(read, len(item.faces)))


def _groups(items: Iterable[Waiting]) -> Iterator[list[Waiting]]:
    """Yield what came in, in groups that fill a batch or are as large as may be held."""
    group: list[Waiting] = []
    faces = size = 0
    for item in items:
        group.append(item)
        faces += len(item.faces)
        size += 0 if item.image is None else item.image.nbytes
        if faces >= BATCH or len(group) >= GROUP_ITEMS or size >= GROUP_BYTES:
            yield group
            group, faces, size = [], 0, 0
    if group:
        yield group
