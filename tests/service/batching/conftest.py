"""Rig: the scheduler with a clock whose hands the test turns and an engine that the test holds and breaks."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pytest

from manet.backends.base import Logits
from manet.vision.preprocess import Pixels
from service.batching.health import EngineHealth
from service.batching.policy import BatchPolicy
from service.batching.scheduler import Scheduler
from service.batching.supervisor import Recovery

SIDE = 2
BLANK = 0
TIMEOUT = 10.0
"""Real seconds after which a test that hangs is failed; none that passes comes near."""


class FakeClock:
    """Time that stands still until the test moves it."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._timers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self.time

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        timer = (self.time + seconds, asyncio.Event())
        self._timers.append(timer)
        either = [asyncio.ensure_future(awaited.wait()) for awaited in (event, timer[1])]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._timers.remove(timer)
            for waiter in either:
                waiter.cancel()

    @property
    def next_in(self) -> float:
        """Seconds until the first of those who wait for the time is due."""
        return min((due - self.time for due, _ in self._timers), default=math.inf)

    async def advance(self, seconds: float) -> None:
        """Move the hands, and let the caller for that go on."""
        self.time += seconds
        for due, timer in self._timers:
            if due <= self.time:
                timer.set()
        await breathe()


async def breathe() -> None:
    """Let every task of the loop run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def settled(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds; what the engine's thread hands over takes a moment."""
    async with asyncio.timeout(10.0):
        while not condition():
            await asyncio.sleep(0.001)


async def fails(task: asyncio.Task[list[int]], error: type[BaseException]) -> bool:
    """Hold that a task ends with this error; return True, for an assertion."""
    with pytest.raises(error):
        await task
    return True


class FakeEngine:
    """An engine that tells its batches by a mark in their pixels; 0 is a blank.

    It reads the marks that it answers by only when it has been let go, so a buffer that changes under a running batch
    shows in the answers.
    """

    def __init__(self, clock: FakeClock, loop: asyncio.AbstractEventLoop) -> None:
        self.batches: list[list[int]] = []
        self.poison: set[int] = set()
        self.dead = False
        self.error: BaseException | None = None
        self.warmed: list[int] = []
        self.warm: list[int] = []  # the sizes that it says it ran, where those are not the requested ones
        self.closed = 0
        self.seconds: Callable[[int], float] = lambda size: 0.0
        self._clock = clock
        self._loop = loop
        self._entered: asyncio.Queue[list[int]] = asyncio.Queue()
        self._held = False
        self._permits = threading.Semaphore(0)

    # -- what the scheduler calls, in its thread

    def warmup(self, batch_sizes: Sequence[int]) -> Sequence[int]:
        self.warmed = list(batch_sizes)
        return self.warm or batch_sizes

    def infer(self, images: Pixels) -> Logits:
        assert images.dtype == np.uint8
        assert images.shape[1:] == (SIDE, SIDE, 3)
        marks = images[:, 0, 0, 0].tolist()
        self.batches.append(marks)
        self._loop.call_soon_threadsafe(self._entered.put_nowait, marks)
        if self._held:
            assert self._permits.acquire(timeout=TIMEOUT), "a batch was held and never released"
        self._clock.time += self.seconds(len(marks))
        if self.error is not None:
            raise self.error
        if self.dead or self.poison & set(marks):
            raise RuntimeError("out of order")
        column = images[:, 0, 0, :1].astype(np.float32)
        return np.concatenate([column, -column], axis=1)

    def close(self) -> None:
        self.closed += 1

    # -- what the test calls

    def hold(self) -> None:
        """Keep every batch from now on until it is released."""
        self._held = True

    def release(self) -> None:
        """Let one held batch go on."""
        self._permits.release()

    def let_go(self) -> None:
        """Let the held batch go on, and hold none any more."""
        self._held = False
        self._permits.release()

    async def entered(self) -> list[int]:
        """Return the marks of the next batch that reaches the engine, as soon as it does."""
        async with asyncio.timeout(TIMEOUT):
            return await self._entered.get()

    def forget(self) -> None:
        """Forget the batches so far."""
        self.batches.clear()
        while not self._entered.empty():
            self._entered.get_nowait()


@dataclass
class Ledger:
    """An observer that writes down what it is told."""

    waits: list[float] = field(default_factory=list)
    batches: list[tuple[int, float]] = field(default_factory=list)
    failures: int = 0

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def completed(self, size: int, seconds: float) -> None:
        self.batches.append((size, seconds))

    def failed(self) -> None:
        self.failures += 1


class Rig:
    """A scheduler and everything around it, in the test's hands.

    Attributes:
        engines: the first one, and each that was built in place of another.
        prepare: is shown each of these before it answers anything.
    """

    def __init__(
        self,
        *,
        max_batch_size: int = 4,
        window: float = 0.0,
        capacity: int = 16,
        rebuild: bool = True,
        recovery: Recovery | None = None,
    ) -> None:
        self.clock = FakeClock()
        self._loop = asyncio.get_running_loop()
        self.engines = [FakeEngine(self.clock, self._loop)]
        self.prepare: Callable[[FakeEngine], None] = lambda engine: None
        self.observer = Ledger()
        self.health = EngineHealth(interval=5.0, timeout=30.0)
        self.scheduler = Scheduler(
            self.engines[0],
            side=SIDE,
            policy=BatchPolicy(max_batch_size, window),
            capacity=capacity,
            clock=self.clock,
            observer=self.observer,
            health=self.health,
            rebuild=self._rebuild if rebuild else None,
            recovery=recovery,
        )
        self._images: list[asyncio.Task[list[int]]] = []
        self._stopped = False

    @property
    def engine(self) -> FakeEngine:
        """The newest engine."""
        return self.engines[-1]

    def _rebuild(self) -> FakeEngine:
        engine = FakeEngine(self.clock, self._loop)
        self.prepare(engine)
        self.engines.append(engine)
        return engine

    async def start(self) -> None:
        """Start the scheduler and forget the blank batches that this takes."""
        await self.scheduler.start()
        await breathe()
        self.engine.forget()

    async def submit(self, *marks: int, within: float = math.inf) -> asyncio.Task[list[int]]:
        """Hand in an image with these faces; return the task that has their marks, once the scheduler has them."""
        task = asyncio.create_task(self._answer(marks, self.clock.now() + within))
        self._images.append(task)
        await breathe()
        return task

    async def _answer(self, marks: Sequence[int], deadline: float) -> list[int]:
        faces = [np.full((SIDE, SIDE, 3), mark, np.uint8) for mark in marks]
        async with asyncio.timeout(TIMEOUT):
            logits = (await self.scheduler.submit(faces, deadline=deadline)).logits
        assert all(row.tolist() == [row[0], -row[0]] for row in logits)
        return [int(row[0]) for row in logits]

    async def stop(self) -> None:
        """Stop the scheduler, which can be done once."""
        self._stopped = True
        await self.scheduler.stop()

    async def dismantle(self) -> None:
        """Stop what still runs; no image may be left without an answer."""
        for engine in self.engines:
            engine.let_go()
        if not self._stopped:
            await self.stop()
        await asyncio.gather(*self._images, return_exceptions=True)


class MakeRig(Protocol):
    """Builds a rig, started unless told otherwise, from the arguments of ``Rig``."""

    async def __call__(self, *, started: bool = True, **arguments: Any) -> Rig: ...


@pytest.fixture
async def make_rig(quiet_loop: None) -> AsyncIterator[MakeRig]:
    """Build rigs, started unless told otherwise, and take them down at the end."""
    rigs: list[Rig] = []

    async def make(*, started: bool = True, **arguments: Any) -> Rig:
        rig = Rig(**arguments)
        rigs.append(rig)
        if started:
            await rig.start()
        return rig

    yield make
    for rig in rigs:
        await rig.dismantle()


@pytest.fixture
async def rig(make_rig: MakeRig) -> Rig:
    """A started scheduler with batches of at most four and no window."""
    return await make_rig()
