"""Concurrency: threads for what would hold up the event loop, and short calls on the loop itself."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from service.clock import Clock

T = TypeVar("T")


class Budget:
    """An amount that threads share; who finds too little left waits for others to give theirs back.

    Args:
        total: the most that all of them hold at once.
    """

    def __init__(self, total: int) -> None:
        self._left = self._total = total
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, amount: int, *, seconds: float) -> Iterator[None]:
        """Hold an amount while inside; the total stands for more than that.

        Raises:
            TimeoutError: if it was not to be had in so many seconds.
        """
        amount = min(amount, self._total)
        with self._changed:
            if not self._changed.wait_for(lambda: self._left >= amount, seconds):
                raise TimeoutError
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()


_making = threading.local()


def caller() -> asyncio.Future[Any] | None:
    """Return what the caller of the call waits for that this thread, one of ``Workers``, makes; None in other threads.

    It is cancelled, in its loop's thread, when the caller leaves.

    Raises:
        asyncio.CancelledError: if the caller has left: what the call has still to do is for no one.
    """
    outcome: asyncio.Future[Any] | None = getattr(_making, "outcome", None)
    if outcome is not None and outcome.cancelled():
        raise asyncio.CancelledError
    return outcome


Call = tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Callable[[], Any]]


class Workers:
    """Runs calls in threads of its own, each thread one at a time, in the order in which they came.

    It does what an executor does, for a tenth of the time: an outcome goes straight to the asyncio future that waits
    for it, with no second future, lock and callback in between. The threads are daemons: a call that hangs cannot hold
    up the end of the process.

    Args:
        count: how many threads, at least 1.
        name: of the threads, for those who look at the process.
    """

    def __init__(self, count: int, name: str) -> None:
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        names = (f"{name}-{number}" for number in range(count))
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether one of the threads has not ended yet."""
        return any(thread.is_alive() for thread in self._threads)

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a call and return its outcome as an awaitable; cancelling that before a thread is free undoes it."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._calls.put((loop, outcome, call))
        return outcome

    def close(self) -> None:
        """Let every thread end after the calls that are queued."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (task := self._calls.get()) is not None:
            loop, outcome, call = task
            if not outcome.cancelled():
                _making.outcome = outcome
                deliver = attempt(call, outcome)
                _making.outcome = None
                with contextlib.suppress(RuntimeError):  # the loop is closed, and with it went the caller
                    loop.call_soon_threadsafe(deliver)
                del deliver
            # The thread may now sleep for long; it must not keep the last image alive meanwhile.
            del task, loop, outcome, call


def attempt(call: Callable[[], T], outcome: asyncio.Future[T]) -> Callable[[], None]:
    """Make a call, and return what tells its outcome to a caller that still waits."""
    try:
        result = call()
    except BaseException as raised:  # whatever it was, it belongs to the caller
        try:
            return partial(_fail, outcome, _as_future_takes_it(raised))
        finally:
            # The error keeps this frame. If the frame kept the call, or the outcome that keeps the error, the image in
            # them would be there until the collector looks for cycles.
            del call, outcome
    return partial(_succeed, outcome, result)


def _as_future_takes_it(error: BaseException) -> BaseException:
    """Return an error, or one in its stead that a future takes; the caller would wait for ever for a StopIteration.

    Source: python/cpython issue 112182.
    """
    if not isinstance(error, StopIteration):
        return error
    stray = RuntimeError("the call raised StopIteration")
    stray.__cause__ = error
    return stray


def _succeed(outcome: asyncio.Future[T], result: T) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _fail(outcome: asyncio.Future[T], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)


class LoopRounds:
    """Makes calls in the order in which they came, and lets the loop go round before the next ones when time is up.

    However many wait, nothing else that the loop has to do waits longer than that time and one call. One call a round
    would be fairer still, but then every image pays for a round of its own, and meets the network alone.

    Args:
        seconds: of calls in a round; each round makes at least one.
        clock: the time.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._calls: deque[Call] = deque()

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a call and return its outcome as an awaitable; cancelling that before its turn undoes it."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        if not self._calls:
            loop.call_soon(self._go_on)
        self._calls.append((loop, outcome, call))
        return outcome

    def _go_on(self) -> None:
        end = self._clock.now() + self._seconds
        while self._calls:
            loop, outcome, call = self._calls.popleft()
            if not outcome.cancelled():
                attempt(call, outcome)()
            if self._calls and self._clock.now() >= end:
                loop.call_soon(self._go_on)
                break
