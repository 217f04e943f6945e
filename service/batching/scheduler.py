"""Scheduler: brings waiting items and the engine together, by the policy."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from manet.backends.base import Logits
from manet.vision.preprocess import Pixels
from service.batching.buffer import BatchBuffer
from service.batching.errors import (
    BatchingError,
    DeadlinePassedError,
    EngineLostError,
    EngineUnavailableError,
    ItemFailedError,
)
from service.batching.health import EngineHealth
from service.batching.policy import BatchPolicy, BatchTimes, RunningBatch
from service.batching.queue import BoundedQueue, Item
from service.batching.supervisor import Engine, EngineSupervisor, Recovery
from service.clock import Clock

_log = logging.getLogger("manet.scheduler")


class BatchObserver(Protocol):
    """Notified of what the scheduler does."""

    def waited(self, seconds: float) -> None:
        """An item left the queue for the engine after so long."""

    def completed(self, size: int, seconds: float) -> None:
        """A batch came back; blank ones do not count."""

    def failed(self) -> None:
        """A batch failed."""


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """What one image's faces were answered with.

    Attributes:
        logits: of each face, (C,).
        queued: seconds that the last of them waited for the network.
        inferred: seconds from there until the last of them was answered.
        batch: the size of the largest batch that one of them was in.
    """

    logits: list[Logits]
    queued: float
    inferred: float
    batch: int


class BatchScheduler(Protocol):
    """What the service asks of a scheduler, wherever the engine runs; ``Scheduler`` documents each member."""

    @property
    def depth(self) -> int:
        """Items that wait, the batch in the engine left out."""

    @property
    def alive(self) -> bool:
        """Whether items are taken and the engine has answered lately."""

    @property
    def reason(self) -> str:
        """Why it is not alive, as one sentence for people."""

    @property
    def dead(self) -> bool:
        """Whether it ended without being stopped, and nothing but a new process can help."""

    @property
    def rebuilt(self) -> int:
        """How often the engine was rebuilt."""

    @property
    def abandoned(self) -> int:
        """Engines that hang still and were abandoned."""

    def expected_wait(self, ahead: int = 0) -> float:
        """Return the seconds in which an item handed in now should be answered."""

    async def submit(self, faces: Sequence[Pixels], *, deadline: float, lane: object = None) -> InferenceResult:
        """Return the logits of one image's faces."""

    async def start(self) -> None:
        """Begin to take items."""

    async def stop(self) -> None:
        """Refuse what still waits."""


@dataclass(slots=True, eq=False)
class _Face(Item):
    pixels: Pixels
    started: float = 0.0
    batch: int = 0
    answer: asyncio.Future[Logits] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Scheduler:
    """Batches what waits, one batch in the engine and one prepared ahead.

    Args:
        engine: the network; called in a thread of its own.
        side: side of the network's input, in pixels.
        policy: when a batch starts and how large it grows.
        capacity: the most items that wait at once.
        clock: the time.
        observer: is notified of every batch.
        health: the judge of the engine.
        rebuild: makes another engine in place of one that is lost; None where that is the scheduler's end.
        recovery: how often and after what pause.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        side: int,
        policy: BatchPolicy,
        capacity: int,
        clock: Clock,
        observer: BatchObserver,
        health: EngineHealth | None = None,
        rebuild: Callable[[], Engine] | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        self.health = EngineHealth() if health is None else health
        self._policy = policy
        self._clock = clock
        self._observer = observer
        self._queue: BoundedQueue[_Face] = BoundedQueue(capacity)
        self._next: BatchBuffer[_Face] = BatchBuffer(policy.max_batch_size, side)
        self._spare: BatchBuffer[_Face] = BatchBuffer(policy.max_batch_size, side)
        self._blank: Pixels = np.zeros((policy.max_batch_size, side, side, 3), dtype=np.uint8)
        self._supervisor = EngineSupervisor(
            engine,
            rebuild=rebuild,
            recovery=Recovery() if recovery is None else recovery,
            blank=self._blank,
            clock=clock,
            observer=observer,
            health=self.health,
        )
        self._changed = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self._ended = False
        self._died = False

    # -- what the service asks

    @property
    def depth(self) -> int:
        """Items that wait, the batch in the engine left out."""
        return len(self._queue) + len(self._next)

    @property
    def running(self) -> RunningBatch | None:
        """The batch in the engine."""
        return self._supervisor.running

    @property
    def times(self) -> BatchTimes:
        """What batches have taken."""
        return self._supervisor.times

    @property
    def idle(self) -> bool:
        """Whether nothing waits and the engine does nothing."""
        return self.depth == 0 and self._supervisor.running is None

    @property
    def alive(self) -> bool:
        """Whether items are taken and the engine has answered lately."""
        return self._driver is not None and not self._ended and self.health.alive(self._clock.now())

    @property
    def reason(self) -> str:
        """Why it is not alive, as one sentence for people."""
        return self.health.reason

    @property
    def dead(self) -> bool:
        """Whether it ended without being stopped, and nothing but a new process can help."""
        return self._died

    @property
    def rebuilt(self) -> int:
        """How often the engine was rebuilt."""
        return self._supervisor.rebuilt

    @property
    def abandoned(self) -> int:
        """Engines that hang still and were abandoned."""
        return self._supervisor.abandoned

    def expected_wait(self, ahead: int = 0) -> float:
        """Return the seconds in which an item handed in now should be answered.

        Args:
            ahead: items that are not here yet, but will be served first.
        """
        return self._policy.expected_wait(
            self._supervisor.times, ahead=self.depth + ahead, running=self._supervisor.running, now=self._clock.now()
        )

    async def submit(self, faces: Sequence[Pixels], *, deadline: float, lane: object = None) -> InferenceResult:
        """Return the logits of one image's faces, which wait as a group and are batched one by one.

        If the caller is cancelled, or one of the faces fails, the others leave the queue.

        Args:
            faces: network inputs, (S, S, 3) each.
            deadline: when the answer is worth nothing any more, in seconds of the clock.
            lane: whose they are: lanes take turns. None is a lane of their own.

        Raises:
            QueueFullError: if they do not all fit into the queue.
            DeadlinePassedError: if the deadline passed before the engine came to one of them.
            ItemFailedError: if the engine fails on one of them.
            EngineUnavailableError: if the engine does not answer.
            ValueError: if one of them has another shape; nothing is queued.
        """
        if wrong := [pixels.shape for pixels in faces if pixels.shape != self._blank.shape[1:]]:
            raise ValueError(f"a face has the shape {wrong[0]} instead of {self._blank.shape[1:]}")
        if self._driver is None or self._ended or self.health.broken:
            raise EngineUnavailableError(self.reason)
        now = self._clock.now()
        lane = object() if lane is None else lane
        group = [_Face(enqueued=now, deadline=deadline, lane=lane, pixels=pixels) for pixels in faces]
        self._queue.push(group)
        self._top_up(now)
        self._changed.set()
        try:
            # Most images have one face, which needs no future around its own.
            logits = [await group[0].answer] if len(group) == 1 else await asyncio.gather(*(f.answer for f in group))
        except BaseException:
            self._withdraw(group)
            raise
        started = max((face.started for face in group), default=now)
        batch = max((face.batch for face in group), default=0)
        return InferenceResult(logits, started - now, self._clock.now() - started, batch)

    # -- its life

    async def start(self) -> None:
        """Warm the engine up, see blank batches come back, and begin to take items.

        Raises:
            Exception: whatever the engine raises; then nothing was begun.
        """
        await self._supervisor.start()
        self._driver = asyncio.create_task(self._drive(), name="scheduler")
        self._driver.add_done_callback(self._notice_end)

    async def stop(self) -> None:
        """Refuse what still waits, and close the engine."""
        self._ended = True
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.wait({self._driver})
        await self._supervisor.close()

    def _notice_end(self, driver: asyncio.Task[None]) -> None:
        if not driver.cancelled():
            error = driver.exception()
            traceback = None if isinstance(error, EngineLostError) else error
            _log.critical("the scheduler died, and nothing is answered any more: %s", error, exc_info=traceback)
            self._died = True
        self._ended = True
        self._refuse_waiting()

    async def _drive(self) -> None:
        while True:
            self._changed.clear()
            if self.health.broken:
                self._refuse_waiting()
                await self._supervisor.replace()
                continue
            now = self._clock.now()
            self._drop_expired(now)
            self._top_up(now)
            if not self._next:
                quiet = self.health.until_probe(now)
                if quiet > 0:
                    await self._clock.wait(self._changed, quiet)
                else:
                    await self._supervisor.probe()
                continue
            oldest = min(face.enqueued for face in self._next.items)
            pause = self._policy.pause(len(self._next), oldest, now)
            if pause > 0:
                await self._clock.wait(self._changed, pause)
            else:
                await self._run_batch(now)

    # -- the batch that is prepared ahead

    def _top_up(self, now: float) -> None:
        taken = self._queue.take(self._next.room, now)
        for face in taken.ready:
            self._next.add(face, face.pixels)
        _fail(taken.expired, DeadlinePassedError, "the deadline passed in the queue")

    def _drop_expired(self, now: float) -> None:
        expired = [face for face in self._next.items if face.deadline <= now]
        for face in expired:
            self._next.discard(face)
        _fail(expired, DeadlinePassedError, "the deadline passed in the queue")

    def _withdraw(self, group: Iterable[_Face]) -> None:
        for face in group:
            face.answer.cancel()  # which does nothing to one that was answered
            if not self._queue.discard(face):
                self._next.discard(face)
        self._top_up(self._clock.now())

    def _refuse_waiting(self) -> None:
        _fail([*self._next.clear(), *self._queue.clear()], EngineUnavailableError, self.reason)

    # -- the batch in the engine

    async def _run_batch(self, now: float) -> None:
        batch, self._next, self._spare = self._next, self._spare, self._next
        try:
            self._top_up(now)
            for face in batch.items:
                face.started, face.batch = now, len(batch.items)
                self._observer.waited(now - face.enqueued)
            await self._settle(batch.pixels, batch.items)
        finally:
            _fail(batch.clear(), EngineUnavailableError, "the engine was stopped")

    async def _settle(self, pixels: Pixels, faces: Sequence[_Face]) -> None:
        """Answer every face; a batch that fails is tried again in halves, down to the face at fault."""
        if self.health.broken:
            _fail(faces, EngineUnavailableError, self.reason)
            return
        started = self._clock.now()
        try:
            logits = await self._supervisor.infer(pixels)
        except Exception:  # logged where it was raised; a network may raise anything
            if self.health.broken or (self.health.suspect and not await self._supervisor.probe()):
                _fail(faces, EngineUnavailableError, self.reason)
            elif len(faces) == 1:
                _fail(faces, ItemFailedError, "the network failed on this face")
            else:
                half = len(faces) // 2
                await self._settle(pixels[:half], faces[:half])
                await self._settle(pixels[half:], faces[half:])
            return
        for face, row in zip(faces, logits, strict=True):
            if not face.answer.done():
                face.answer.set_result(row)
        self._observer.completed(len(faces), self._clock.now() - started)


def _fail(faces: Iterable[_Face], error: type[BatchingError], reason: str) -> None:
    for face in faces:
        if not face.answer.done():
            face.answer.set_exception(error(reason))
