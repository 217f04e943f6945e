"""EngineSupervisor: keeps an engine that answers: asks it for no longer than a bound, judges it, rebuilds it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol, TypeVar

from manet.backends.base import Logits
from manet.vision.preprocess import Pixels
from service.batching.errors import EngineLostError, EngineTimeoutError
from service.batching.health import EngineHealth
from service.batching.policy import BatchTimes, RunningBatch
from service.clock import Clock
from service.concurrency import Workers

_log = logging.getLogger("manet.engine")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recovery:
    """The bounds within which a lost engine is replaced; beyond them the process is better started again.

    Attributes:
        attempts: rebuilds in succession, with no batch of requests answered in between.
        abandoned: engines that hang and were abandoned, each with its thread and its memory.
        pause: seconds before the second attempt; each further one waits twice as long.
        longest: the longest pause, in seconds.
    """

    attempts: int = 6
    abandoned: int = 2
    pause: float = 1.0
    longest: float = 30.0

    def delay(self, attempts: int) -> float:
        """Return the seconds to wait after so many attempts; none before the first."""
        return 0.0 if attempts == 0 else min(self.longest, self.pause * 2.0 ** (attempts - 1))


def out_of_memory(error: BaseException) -> bool:
    """Return whether an engine failed for want of memory, whatever it runs on.

    PyTorch raises ``torch.OutOfMemoryError`` on a device, known here by its name so that no one loads PyTorch to ask,
    and a ``RuntimeError`` of its allocator on a CPU; OpenVINO's ``std::bad_alloc`` arrives as ``MemoryError``.
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


class Engine(Protocol):
    """What the scheduler drives; a ``manet.backends.base.Backend`` is one. It is called from a single thread."""

    def warmup(self, batch_sizes: Sequence[int]) -> Sequence[int]:
        """Run blank batches that prepare for these sizes; return the sizes that ran."""

    def infer(self, images: Pixels) -> Logits:
        """Return the logits, (N, C), of a batch, (N, S, S, 3)."""

    def close(self) -> None:
        """Let go of the network."""


class FailureObserver(Protocol):
    """Notified when a batch failed."""

    def failed(self) -> None:
        """A batch failed."""


class EngineSupervisor:
    """One engine at a time, each in a thread of its own.

    An engine is lost when it fails on a blank batch, hangs, or runs out of memory. It is then closed, or abandoned
    with its thread where it does not return, and another is built.

    Args:
        engine: the first one.
        rebuild: makes another, called in that one's thread; None where a lost engine is the end.
        recovery: how often and after what pause.
        blank: the largest batch, (N, S, S, 3), of nothing.
        clock: the time.
        observer: is notified of every batch that failed.
        health: the judge; its timeout is how long a batch may take.
    """

    CLOSING: ClassVar[float] = 5.0
    """Seconds that an engine is given to return and close."""
    BUILDING: ClassVar[float] = 120.0
    """Seconds in which a new engine must be loaded and warmed up."""

    def __init__(
        self,
        engine: Engine,
        *,
        rebuild: Callable[[], Engine] | None,
        recovery: Recovery,
        blank: Pixels,
        clock: Clock,
        observer: FailureObserver,
        health: EngineHealth,
    ) -> None:
        self.health = health
        self.times = BatchTimes()
        self.running: RunningBatch | None = None
        self.rebuilt = 0
        self._engine: Engine | None = engine
        self._thread = Workers(1, "engine")
        self._rebuild = rebuild
        self._recovery = recovery
        self._blank = blank
        self._sizes = sorted({1, len(blank)})
        self._clock = clock
        self._observer = observer
        self._attempts = 0
        self._abandoned: list[Workers] = []

    @property
    def abandoned(self) -> int:
        """Engines that hang still and were abandoned."""
        self._abandoned = [thread for thread in self._abandoned if thread.alive]
        return len(self._abandoned)

    async def start(self) -> None:
        """Warm the first engine up, and see and time a batch of each size that is warm then.

        Raises:
            Exception: whatever the engine raises.
        """
        sizes = await self._thread.run(partial(self._present().warmup, self._sizes))
        for blank in self._blanks(sizes):
            await self._ask(blank)

    async def infer(self, pixels: Pixels) -> Logits:
        """Return the logits, (N, C), of a batch of requests, (N, S, S, 3).

        Raises:
            EngineTimeoutError: if the batch did not come back in time; the engine is lost.
            Exception: whatever the engine raises; it is lost if that was for want of memory.
        """
        logits = await self._ask(pixels)
        self._attempts = 0
        return logits

    async def probe(self) -> bool:
        """Ask for a blank batch and return whether it came back; an engine that fails on that is lost."""
        try:
            await self._ask(self._blank[:1])
        except Exception:  # logged where it was raised; a network may raise anything
            self._mark_unhealthy("the network fails on every batch")
            return False
        return True

    async def replace(self) -> None:
        """Put a new engine into the place of one that was lost, trying again after growing pauses.

        Raises:
            EngineLostError: if none is to be built, or not any more.
        """
        lost = self.health.reason
        await self._release()
        while True:
            rebuild = self._next_attempt(lost)
            pause = self._recovery.delay(self._attempts)
            if pause > 0:
                await self._clock.wait(asyncio.Event(), pause)
            self._attempts += 1
            self._thread = Workers(1, "engine")
            try:
                self._engine = await self._within(self.BUILDING, self._thread.run(partial(self._build, rebuild)))
            except Exception as error:  # whatever keeps a network from being built
                _log.exception("attempt %d to build the engine again failed", self._attempts)
                self._thread.close()
                if isinstance(error, EngineTimeoutError):
                    self._abandoned.append(self._thread)
                continue
            self.rebuilt += 1
            self.health.succeeded(self._clock.now())
            _log.warning("the engine was rebuilt, at attempt %d; it answers", self._attempts)
            return

    async def close(self) -> None:
        """Close the engine, and give up on it if it does not return."""
        await self._release()

    def _present(self) -> Engine:
        if self._engine is None:
            raise EngineLostError("there is no engine")
        return self._engine

    def _build(self, rebuild: Callable[[], Engine]) -> Engine:
        """Return another engine that was seen to answer blank batches; runs in that engine's thread."""
        engine = rebuild()
        try:
            for blank in self._blanks(engine.warmup(self._sizes)):
                engine.infer(blank)
        except BaseException:
            engine.close()
            raise
        return engine

    def _blanks(self, sizes: Sequence[int]) -> list[Pixels]:
        """Return a blank batch of each of these sizes, the least first, none above the largest batch."""
        return [self._blank[:size] for size in sorted({min(size, len(self._blank)) for size in sizes})]

    def _next_attempt(self, lost: str) -> Callable[[], Engine]:
        """Return what makes another engine, as long as the bounds allow."""
        if self._rebuild is None:
            raise EngineLostError(f"{lost}, and it is not to be rebuilt")
        if self._attempts >= self._recovery.attempts:
            raise EngineLostError(f"{lost}, and rebuilding it did not help {self._attempts} times in succession")
        if self.abandoned > self._recovery.abandoned:
            raise EngineLostError(f"{lost}, and {self.abandoned} engines hang already")
        return self._rebuild

    async def _ask(self, pixels: Pixels) -> Logits:
        started = self._clock.now()
        self.running = RunningBatch(len(pixels), started)
        try:
            call = partial(self._present().infer, pixels)
            logits = await self._within(self.health.timeout, self._thread.run(call))
        except Exception as error:
            _log.error("a batch of %d failed in the engine", len(pixels), exc_info=not self.health.broken)
            self._judge(error)
            raise
        finally:
            self.running = None
        now = self._clock.now()
        self.times.add(len(pixels), now - started)
        self.health.succeeded(now)
        return logits

    def _judge(self, error: Exception) -> None:
        self.health.failed(self._clock.now())
        self._observer.failed()
        if isinstance(error, EngineTimeoutError):
            self._mark_unhealthy("the network hangs")
        elif out_of_memory(error):
            self._mark_unhealthy("the network ran out of memory")

    def _mark_unhealthy(self, reason: str) -> None:
        if not self.health.broken:
            _log.critical("%s; not ready until it answers again", reason)
            self.health.mark_unhealthy(reason)

    async def _within(self, seconds: float, outcome: asyncio.Future[T]) -> T:
        """Return what a call in the engine's thread comes to.

        The time is waited for in two halves: a process that was frozen, or whose machine slept, wakes to find the first
        one over, and the engine has the second to answer in.

        Raises:
            EngineTimeoutError: if it did not come back in time; what it comes to later is no one's any more.
        """
        done = asyncio.Event()

        def ended(outcome: asyncio.Future[T]) -> None:
            if not outcome.cancelled():
                outcome.exception()  # seen, even where no one waits any more
            done.set()

        outcome.add_done_callback(ended)
        for _half in range(2):
            if not outcome.done():
                await self._clock.wait(done, seconds / 2)
        if not outcome.done():
            raise EngineTimeoutError(f"the engine did not return within {seconds:g} s")
        return outcome.result()

    async def _release(self) -> None:
        engine, thread, self._engine = self._engine, self._thread, None
        try:
            if engine is not None:
                await self._within(self.CLOSING, thread.run(engine.close))
        except EngineTimeoutError as error:
            self._abandoned.append(thread)
            _log.error("%s of being closed; it is abandoned", error)
        except Exception:
            _log.exception("the engine failed to close")
        finally:
            thread.close()
