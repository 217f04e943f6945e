"""Predictor: the way of one image through the service: decode and find in a worker, batch, read."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from manet.errors import ImageTooLargeError
from manet.recognizer import FaceInput, FaceMode, ImageFaces, RecognizedFace, Recognizer
from manet.vision.images import ImageLimits, Reserve, read_crop, read_scaled
from service.admission import Ticket
from service.batching.scheduler import BatchScheduler
from service.clock import Clock
from service.concurrency import Budget, LoopRounds, Workers
from service.errors import DeadlineExceededError
from service.inference.detector import DetectorGuard


class ImageObserver(Protocol):
    """Notified of every image."""

    def found(self, seconds: float) -> None:
        """An image was decoded and its faces found."""

    def recognized(self, faces: int) -> None:
        """So many faces were answered."""


@dataclass(frozen=True, slots=True)
class PredictionResult(ImageFaces[RecognizedFace]):
    """What one image shows, and where the time went.

    Attributes:
        seconds: spent in each stage: ``find`` (decode and detect), ``queue`` and ``infer``.
    """

    seconds: Mapping[str, float]


DecodedImage = ImageFaces[FaceInput]
"""An image that was decoded, with its faces as network input."""


_SMALL = ImageLimits(max_bytes=64 * 1024, max_pixels=256 * 256)
"""A crop within these limits is decoded in about half a millisecond: sending it to a worker and back takes as long,
and longer where the two compete for the interpreter."""


_ROUND = 0.002
"""Seconds of small crops in a round of the loop: a refusal then waits no longer, even behind a hundred of them."""


@contextmanager
def reserving(memory: Budget, ticket: Ticket, clock: Clock) -> Iterator[Reserve]:
    """Give what reserves memory for an image, which is held while inside.

    Raises:
        DeadlineExceededError: if the image's deadline passed before there was as much.
    """
    with ExitStack() as held:
        try:
            yield lambda size: held.enter_context(memory.hold(size, seconds=max(0, ticket.deadline - clock.now())))
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before there was memory for the image") from None


class Client:
    """A client: its images share one lane of the queue, and no more workers than there are.

    Args:
        workers: how many of its images are decoded and looked at, or wait for that, at once.
    """

    def __init__(self, workers: int) -> None:
        self.turns = asyncio.Semaphore(workers)


class Predictor:
    """Answers images that were admitted.

    Args:
        recognizer: finds faces and reads logits.
        guard: stands around every search for faces.
        scheduler: runs the network.
        limits: the largest image to decode.
        memory: bytes that decoding images takes at once.
        workers: threads that decode and find, each with one image at a time.
        clock: the time.
        observer: is notified of every image.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        scheduler: BatchScheduler,
        *,
        guard: DetectorGuard,
        limits: ImageLimits,
        memory: Budget,
        workers: int,
        clock: Clock,
        observer: ImageObserver,
    ) -> None:
        self._recognizer = recognizer
        self._scheduler = scheduler
        self._guard = guard
        self._limits = limits
        self._memory = memory
        self._small = ImageLimits(
            max_bytes=min(limits.max_bytes, _SMALL.max_bytes), max_pixels=min(limits.max_pixels, _SMALL.max_pixels)
        )
        self._rounds = LoopRounds(_ROUND, clock)
        self._worker_count = workers
        self._workers = Workers(workers, "image")
        self._clock = clock
        self._observer = observer

    def client(self) -> Client:
        """Return the place in line of one request, whose images are answered side by side."""
        return Client(self._worker_count)

    async def predict(
        self, data: bytes, ticket: Ticket, *, client: Client, faces: FaceMode, max_faces: int
    ) -> PredictionResult:
        """Return what an image shows.

        A caller that is cancelled takes its faces out of the queue; the worker, if it has begun, ends in its own time.

        Raises:
            ImageError: if the bytes give no image.
            DeadlineExceededError: if the deadline passed before a worker came to it.
            DetectionFailedError, DetectorUnavailableError, NotReadyError: if the detector fails.
            BatchingError: if its faces got no logits.
        """
        began = self._clock.now()
        seen = None
        if faces == "whole":
            seen = await self._rounds.run(partial(self._decode_inline, data))
        if seen is None:
            async with client.turns:
                began = self._clock.now()
                seen = await self._workers.run(partial(self._decode_and_detect, data, ticket, faces, max_faces))
        looked = self._clock.now() - began
        if not seen.faces:
            return PredictionResult(seen.width, seen.height, [], seen.faces_total, {"find": looked})
        ticket.leave()
        pixels = [face.pixels for face in seen.faces]
        answered = await self._scheduler.submit(pixels, deadline=ticket.deadline, lane=client)
        answers = list(map(self._recognizer.read, seen.faces, answered.logits))
        self._observer.recognized(len(answers))
        seconds = {"find": looked, "queue": answered.queued, "infer": answered.inferred}
        return PredictionResult(seen.width, seen.height, answers, seen.faces_total, seconds)

    def close(self) -> None:
        """Let the workers end."""
        self._workers.close()

    def _decode_inline(self, data: bytes) -> DecodedImage | None:
        """Return what a small crop shows, here and now; None where it is not small enough for that."""
        began = self._clock.now()
        try:
            return self._whole(data, self._small, began)
        except ImageTooLargeError:
            return None  # seen in its header; whether it is too large altogether, a worker finds out

    def _decode_and_detect(self, data: bytes, ticket: Ticket, faces: FaceMode, max_faces: int) -> DecodedImage:
        """Return what an image shows; in a worker.

        Raises:
            DeadlineExceededError: if the deadline passed before.
            ImageError: if the bytes give no image.
        """
        began = self._clock.now()
        if began >= ticket.deadline:
            raise DeadlineExceededError("the deadline passed before the image was looked at")
        with reserving(self._memory, ticket, self._clock) as reserve:
            if faces == "whole":
                return self._whole(data, self._limits, began, reserve)
            image = read_scaled(data, limits=self._limits, reserve=reserve)
            with self._guard.searching():
                found = self._recognizer.find(image, faces=faces, max_faces=max_faces)
        self._observer.found(self._clock.now() - began)
        return found

    def _whole(self, data: bytes, limits: ImageLimits, began: float, reserve: Reserve | None = None) -> DecodedImage:
        crop = read_crop(data, self._recognizer.weights.preprocessing, limits=limits, reserve=reserve)
        self._observer.found(self._clock.now() - began)
        return ImageFaces(crop.width, crop.height, [FaceInput(None, crop.pixels)], 1)
