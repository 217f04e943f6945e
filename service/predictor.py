"""Predictor: the way of one picture through the service: decode and find in a worker, batch, read."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from manet.pictures import PictureLimits, read_picture
from manet.recognizer import FaceInput, FaceMode, RecognizedFace, Recognizer
from service.admission import Ticket
from service.batching.scheduler import Scheduler
from service.clock import Clock
from service.errors import DeadlineExceeded


class PictureObserver(Protocol):
    """Who is told of every picture."""

    def found(self, seconds: float) -> None:
        """A picture was decoded and its faces found."""

    def recognized(self, faces: int) -> None:
        """So many faces were answered."""


@dataclass(frozen=True, slots=True)
class Recognized:
    """What one picture shows: its upright size in pixels, and its faces."""

    width: int
    height: int
    faces: list[RecognizedFace]


class Predictor:
    """Answers pictures that were let in.

    Args:
        recognizer: finds faces and reads logits.
        scheduler: runs the network.
        limits: the largest picture to decode.
        workers: threads that decode and find, each with one picture at a time.
        clock: the time.
        observer: is told of every picture.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        scheduler: Scheduler,
        *,
        limits: PictureLimits,
        workers: int,
        clock: Clock,
        observer: PictureObserver,
    ) -> None:
        self._recognizer = recognizer
        self._scheduler = scheduler
        self._limits = limits
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="picture")
        self._clock = clock
        self._observer = observer

    async def predict(self, data: bytes, ticket: Ticket, *, faces: FaceMode, max_faces: int) -> Recognized:
        """Return what a picture shows.

        A caller that is cancelled takes its faces out of the queue; the worker, if it has begun, ends in its own time.

        Raises:
            PictureError: if the bytes give no picture.
            DeadlineExceeded: if the deadline passed before a worker came to it.
            BatchingError: if its faces got no logits.
        """
        find = self._finding(data, ticket, faces, max_faces)
        width, height, found = await asyncio.wrap_future(self._workers.submit(find))
        if not found:
            return Recognized(width, height, [])
        ticket.queued = True
        logits = await self._scheduler.submit([face.pixels for face in found], deadline=ticket.deadline)
        answers = list(map(self._recognizer.read, found, logits))
        self._observer.recognized(len(answers))
        return Recognized(width, height, answers)

    def close(self) -> None:
        """Let the workers end; pictures that wait for one are given up."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _finding(
        self, data: bytes, ticket: Ticket, faces: FaceMode, max_faces: int
    ) -> Callable[[], tuple[int, int, list[FaceInput]]]:
        def find() -> tuple[int, int, list[FaceInput]]:
            began = self._clock.now()
            if began >= ticket.deadline:
                raise DeadlineExceeded("the deadline passed before the picture was looked at")
            image = read_picture(data, limits=self._limits)
            found = self._recognizer.find(image, faces=faces, max_faces=max_faces)
            self._observer.found(self._clock.now() - began)
            height, width = image.shape[:2]
            return width, height, found

        return find
