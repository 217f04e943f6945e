"""Explanations: images explained one after the other, in a thread of their own, beside the engine that serves.

PyTorch and the network's second copy are loaded when the first image comes, not before.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from manet.explain.result import Explanation
from manet.labels import Expression
from manet.recognizer import FaceInput, FaceMode, ImageFaces, Recognizer
from manet.vision.images import ImageLimits, read_scaled
from service.admission import OwnUsage, Ticket, Usage
from service.clock import Clock
from service.concurrency import Budget
from service.errors import (
    RETRY_SECONDS,
    DeadlineExceededError,
    ExplanationsUnavailableError,
    InvalidParameterError,
    OverloadedError,
)
from service.inference.predictor import reserving

NEEDED = ("torch", "captum")
"""The packages without which nothing is explained."""


Explained = ImageFaces[Explanation]
"""An image whose faces are explained."""


class FaceExplainer(Protocol):
    """Explains faces; ``manet.explain.attribution.Explainer`` is one."""

    def explain(self, face: FaceInput, expression: Expression | None = None) -> Explanation:
        """Return what the network went by in a face, for an expression or the one that it answers."""


def load_explainer(recognizer: Recognizer, store: Path | None) -> FaceExplainer:
    """Return what explains a recognizer's weights, loaded.

    Args:
        recognizer: whose answers are explained.
        store: folder of weights that the user imported; None means the default one.
    """
    from manet.explain.attribution import Explainer  # noqa: PLC0415 - PyTorch, not before it is needed

    return Explainer.load(recognizer, store)


class ExplanationSlot:
    """An image's place among those that are explained or wait for it; ``left`` once no one waits for it any more."""

    def __init__(self) -> None:
        self.left = False


class ExplanationWorker:
    """Explains images that were admitted.

    Args:
        recognizer: finds the faces; its weights are explained.
        limits: the largest image to decode.
        memory: bytes that decoding images takes at once.
        most: images that are explained or wait for it, at once.
        clock: the time.
        load: returns what explains, when the first image comes.
        usage: counts these images; by default this process is the whole service.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        limits: ImageLimits,
        memory: Budget,
        most: int,
        clock: Clock,
        load: Callable[[], FaceExplainer],
        usage: Usage | None = None,
    ) -> None:
        self._recognizer = recognizer
        self._limits = limits
        self._memory = memory
        self._most = most
        self._clock = clock
        self._load = load
        self._usage = OwnUsage() if usage is None else usage
        self._places: set[ExplanationSlot] = set()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._explainer: FaceExplainer | None = None  # only the worker touches it

    @contextmanager
    def place(self, expression: Expression | None) -> Iterator[ExplanationSlot]:
        """Hold an image's place while inside.

        Args:
            expression: the one that is to be explained, if not the answered one.

        Raises:
            ExplanationsUnavailableError: if what they need is not installed.
            InvalidParameterError: if the weights do not know the expression.
            OverloadedError: if all places are taken.
        """
        missing = [name for name in NEEDED if find_spec(name) is None]
        if missing:
            absent = " and no ".join(missing)
            raise ExplanationsUnavailableError(
                f"this server has no {absent}; with its extra explain, pip install 'manet[explain]', it would explain"
            )
        classes = self._recognizer.weights.classes
        if expression is not None and expression not in classes:
            raise InvalidParameterError(f"expression: the weights know {', '.join(classes)}")
        if not self._usage.reserve("explanations", 1, self._most):
            raise OverloadedError("too many images wait to be explained", retry_after=RETRY_SECONDS)
        place = ExplanationSlot()
        self._places.add(place)
        try:
            yield place
        finally:
            place.left = True
            self._places.discard(place)
            self._usage.add("explanations", -1)

    async def explain(
        self,
        data: bytes,
        ticket: Ticket,
        place: ExplanationSlot,
        *,
        faces: FaceMode,
        max_faces: int,
        expression: Expression | None,
    ) -> Explained:
        """Return an image's faces, explained.

        A caller that is cancelled gives up its turn; the worker, if it has begun, ends after the face that it is at.

        Raises:
            ImageError: if the bytes give no image.
            DeadlineExceededError: if the deadline passes before the last face is begun.
        """
        ticket.leave()  # its faces never stand in the queue of the engine that serves
        work = self._explaining(data, ticket, place, faces=faces, max_faces=max_faces, expression=expression)
        return await asyncio.wrap_future(self._worker.submit(work))

    def close(self) -> None:
        """Let the worker end after the face that it is at; images that wait are given up."""
        for place in self._places:
            place.left = True
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _explaining(
        self,
        data: bytes,
        ticket: Ticket,
        place: ExplanationSlot,
        *,
        faces: FaceMode,
        max_faces: int,
        expression: Expression | None,
    ) -> Callable[[], Explained]:
        def in_time() -> None:
            if place.left or self._clock.now() >= ticket.deadline:
                raise DeadlineExceededError("the deadline passed before all faces were explained")

        def explain() -> Explained:
            in_time()
            with reserving(self._memory, ticket, self._clock) as reserve:
                image = read_scaled(data, limits=self._limits, reserve=reserve)
                found = self._recognizer.find(image, faces=faces, max_faces=max_faces)
            del image
            explained = []
            for face in found.faces:
                explainer = self._loaded()
                in_time()
                explained.append(explainer.explain(face, expression))
            return ImageFaces(found.width, found.height, explained, found.faces_total)

        return explain

    def _loaded(self) -> FaceExplainer:
        if self._explainer is None:
            self._explainer = self._load()
        return self._explainer
