"""Rounds: short calls on the event loop itself, a few milliseconds of them in each of its rounds."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from service.clock import Clock
from service.workers import Call, attempt

T = TypeVar("T")


class Rounds:
    """Makes calls in the order in which they came, and lets the loop go round before the next ones when time is up.

    However many wait, nothing else that the loop has to do waits longer than that time and one call. One call a round
    would be fairer still, but then every picture pays for a round of its own, and meets the network alone.

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
