"""Clock: the service's one source of time, handed in so that a test can use fake time."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time in seconds, and the only way in which the batching waits."""

    def now(self) -> float:
        """Return seconds since some fixed moment; never goes backwards."""

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set or the seconds have passed, whichever comes first."""


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set or the seconds have passed, whichever comes first."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
