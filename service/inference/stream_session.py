"""Stream: one session of live video. The newest frame is answered; frames that it overtook are dropped unread.

A session holds one frame in flight, one that waits, and no answer that its client has not taken: the next frame is
begun when the last answer is handed over, so a client that reads slowly sees fewer frames, not older ones.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from manet.errors import ImageError
from manet.tracking import Tracker
from service import problems
from service.admission import Admission
from service.batching.errors import BatchingError, EngineUnavailableError
from service.clock import Clock
from service.errors import DrainingError, NotReadyError, OverloadedError, ServiceError
from service.inference.predictor import PredictionResult, Predictor
from service.places import OwnPlaces, Places
from service.schemas.predict import FrameAnswer, FrameProblem, Image, TrackedFace

_log = logging.getLogger("manet.streams")

OUTCOMES = ("answered", "refused", "failed", "dropped")
"""What becomes of a frame: an answer, a problem with status 429, another problem, or a newer frame came first."""

Gate = Callable[[], AbstractContextManager[None]]
"""Holds a client's place for one frame; raises ``RateLimitedError``."""


class FrameObserver(Protocol):
    """Notified of every frame."""

    def frame(self, outcome: str) -> None:
        """A frame was dealt with; the outcome is one of ``OUTCOMES``."""

    def frame_answered(self, seconds: float) -> None:
        """A frame's faces were sent so long after it arrived."""


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why the service ends a session: a code of RFC 6455 or IANA's registry, and a sentence of at most 123 bytes."""

    code: int
    reason: str


DRAINING = CloseReason(1012, "the service is being stopped")
NOT_READY = CloseReason(1013, "the network does not answer; try again later")
FULL = CloseReason(1013, "too many streams are open; try again later")
NO_FRAME = CloseReason(1003, "a frame is a binary message")
DEFECT = CloseReason(1011, "this is a defect of the service")


class StreamRegistry:
    """The sessions that are open.

    Args:
        most: at once.
        most_each: of one client at once; None is no limit.
        places: counts them; by default this process is the whole service.
    """

    def __init__(self, *, most: int, most_each: int | None, places: Places | None = None) -> None:
        self._most = most
        self._most_each = most_each
        self._places = OwnPlaces() if places is None else places

    @property
    def open(self) -> int:
        """Sessions that are open."""
        return self._places.taken

    @contextmanager
    def entering(self, client: str) -> Iterator[None]:
        """Hold the place of a client's session while inside.

        Raises:
            OverloadedError: if there is none.
        """
        if not self._places.enter(client, most=self._most, most_each=self._most_each):
            raise OverloadedError(FULL.reason)
        try:
            yield
        finally:
            self._places.leave(client)


@dataclass(frozen=True, slots=True)
class _Frame:
    """An image that arrived: the how many-th, from 0, and when."""

    number: int
    data: bytes
    arrived: float


class _LatestFrame:
    """Holds one frame, the newest."""

    def __init__(self) -> None:
        self._frame: _Frame | None = None
        self._there = asyncio.Event()

    def put(self, frame: _Frame) -> bool:
        """Take the place of whatever waits; return whether something did."""
        overtaken = self._frame is not None
        self._frame = frame
        self._there.set()
        return overtaken

    async def take(self) -> _Frame:
        """Return the frame as soon as there is one."""
        await self._there.wait()
        self._there.clear()
        frame, self._frame = self._frame, None
        assert frame is not None
        return frame


class StreamSession:
    """One client's stream, from its acceptance to its end.

    Args:
        websocket: accepted.
        admission: lets every frame in by itself.
        predictor: answers it.
        gate: the client's own limits.
        tracker: follows the faces.
        clock: the time.
        observer: is notified of every frame.
        model: id of the weights.
        max_faces: the most faces answered in a frame.
        idle_timeout: seconds in which a frame must come, and an answer be taken.
    """

    def __init__(
        self,
        websocket: WebSocket,
        *,
        admission: Admission,
        predictor: Predictor,
        gate: Gate,
        tracker: Tracker,
        clock: Clock,
        observer: FrameObserver,
        model: str,
        max_faces: int,
        idle_timeout: float,
    ) -> None:
        self._websocket = websocket
        self._admission = admission
        self._predictor = predictor
        self._client = predictor.client()
        self._gate = gate
        self._tracker = tracker
        self._clock = clock
        self._observer = observer
        self._model = model
        self._max_faces = max_faces
        self._idle_timeout = idle_timeout
        self._newest = _LatestFrame()
        self._dropped = 0

    async def run(self) -> CloseReason | None:
        """Answer frames until the session ends; return how to close it, or None where the client is gone."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._answer())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in tasks if task in done).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _read(self) -> CloseReason | None:
        """Take frames off the wire as they come, so that none grows old there."""
        number = 0
        while True:
            try:
                async with asyncio.timeout(self._idle_timeout):
                    message = await self._websocket.receive()
            except TimeoutError:
                return CloseReason(1001, f"no frame came within {self._idle_timeout:g} seconds")
            if message["type"] == "websocket.disconnect":
                return None
            data = message.get("bytes")
            if data is None:
                return NO_FRAME
            if self._newest.put(_Frame(number, data, self._clock.now())):
                self._dropped += 1
                self._observer.frame("dropped")
            number += 1

    async def _answer(self) -> CloseReason | None:
        """Answer the newest frame, again and again."""
        while True:
            frame = await self._newest.take()
            try:
                answer = await self._answered(frame)
            except Exception as error:  # a defect in one frame must not pass unseen, nor end in silence
                _log.exception("an unexpected %s; this is a defect of the service", type(error).__name__)
                self._observer.frame("failed")
                return DEFECT
            if isinstance(answer, CloseReason):
                self._observer.frame("refused")
                return answer
            try:
                async with asyncio.timeout(self._idle_timeout):
                    await self._websocket.send_text(answer.model_dump_json())
            except (TimeoutError, WebSocketDisconnect):
                return None  # who takes no answer takes no reason for its end either

    async def _answered(self, frame: _Frame) -> FrameAnswer | FrameProblem | CloseReason:
        try:
            with self._gate(), self._admission.receive(len(frame.data)) as upload:
                upload.add(len(frame.data))
                with self._admission.admit(upload) as ticket:
                    found = await self._predictor.predict(
                        frame.data, ticket, client=self._client, faces="detect", max_faces=self._max_faces
                    )
        except DrainingError:
            return DRAINING
        except (NotReadyError, EngineUnavailableError):
            return NOT_READY
        except (ServiceError, ImageError, BatchingError) as error:
            return self._refused(frame, error)
        return self._found(frame, found)

    def _found(self, frame: _Frame, found: PredictionResult) -> FrameAnswer:
        age = self._clock.now() - frame.arrived
        self._observer.frame("answered")
        self._observer.frame_answered(age)
        return FrameAnswer(
            frame=frame.number,
            age_ms=round(1e3 * age, 1),
            dropped=self._dropped,
            model=self._model,
            image=Image(width=found.width, height=found.height),
            faces_total=found.faces_total,
            faces=[TrackedFace.followed(face) for face in self._tracker.follow(found.faces, frame.arrived)],
        )

    def _refused(self, frame: _Frame, error: ServiceError | ImageError | BatchingError) -> FrameProblem:
        problem = problems.described(error)
        self._observer.frame("refused" if problem.status == HTTPStatus.TOO_MANY_REQUESTS else "failed")
        return FrameProblem(
            frame=frame.number,
            age_ms=round(1e3 * (self._clock.now() - frame.arrived), 1),
            dropped=self._dropped,
            problem=problem,
            retry_after=getattr(error, "retry_after", None),
        )
