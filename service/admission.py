"""Admission: whether a picture is let in, decided before a byte of it is read."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from service.clock import Clock
from service.errors import RETRY_SECONDS, Draining, NotReady, Overloaded


class Engine(Protocol):
    """What admission asks about the network; ``service.batching.scheduler.Scheduler`` answers it."""

    @property
    def alive(self) -> bool:
        """Whether the network has answered lately."""

    @property
    def reason(self) -> str:
        """Why it is not alive."""

    def expected_wait(self, ahead: int = 0) -> float:
        """Return the seconds until an item handed in now, behind ``ahead`` others to come, should be answered."""


class ShedObserver(Protocol):
    """Who is told of every refusal."""

    def shed(self, reason: str) -> None:
        """A picture was refused; the reason is one of ``REASONS``."""


REASONS = ("draining", "not_ready", "pictures", "bytes", "deadline")
"""Why a picture is refused: the service stops, the network does not answer, a bound is reached, it would be late."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is in work at once, at most.

    Attributes:
        pictures: pictures, from admission to answer.
        bytes: bytes of their uploads.
        deadline: seconds in which a picture must be answered.
    """

    pictures: int
    bytes: int
    deadline: float


class Ticket:
    """A picture that was let in.

    Attributes:
        deadline: when its answer is worth nothing any more, in seconds of the clock.
        queued: whether its faces stand in the network's own queue, which then counts them.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.queued = False


class Admission:
    """Lets pictures in as long as the bounds hold and they can still be answered in time.

    Decoded pixels need no bound of their own: only the workers hold any, one picture each, and no picture has more
    than the limit.

    Args:
        bounds: what is in work at once, at most.
        engine: the network.
        clock: the time.
        observer: is told of every refusal.
    """

    def __init__(self, bounds: Bounds, *, engine: Engine, clock: Clock, observer: ShedObserver) -> None:
        self.draining = False
        self._bounds = bounds
        self._engine = engine
        self._clock = clock
        self._observer = observer
        self._tickets: set[Ticket] = set()
        self._bytes = 0

    @property
    def pictures(self) -> int:
        """Pictures in work."""
        return len(self._tickets)

    @property
    def ready(self) -> bool:
        """Whether pictures are let in at all."""
        return not self.draining and self._engine.alive

    @contextmanager
    def admit(self, size: int) -> Iterator[Ticket]:
        """Hold a picture's place while inside.

        Args:
            size: the largest number of bytes that its upload can have.

        Raises:
            Draining: if the service is being stopped.
            NotReady: if the network does not answer.
            Overloaded: if a bound is reached, or the answer would come too late.
        """
        self._refuse_if_needed(size)
        ticket = Ticket(self._clock.now() + self._bounds.deadline)
        self._tickets.add(ticket)
        self._bytes += size
        try:
            yield ticket
        finally:
            self._tickets.discard(ticket)
            self._bytes -= size

    def _refuse_if_needed(self, size: int) -> None:
        if self.draining:
            self._observer.shed("draining")
            raise Draining("the service is being stopped", retry_after=RETRY_SECONDS)
        if not self._engine.alive:
            self._observer.shed("not_ready")
            raise NotReady(self._engine.reason, retry_after=RETRY_SECONDS)
        # A picture whose faces are not queued yet stands for one face: most pictures have one.
        wait = self._engine.expected_wait(ahead=sum(not ticket.queued for ticket in self._tickets))
        full = {
            "pictures": len(self._tickets) >= self._bounds.pictures,
            "bytes": self._bytes + size > self._bounds.bytes,
            "deadline": wait > self._bounds.deadline,
        }
        for reason, reached in full.items():
            if reached:
                self._observer.shed(reason)
                late = max(0.0, wait - self._bounds.deadline)
                raise Overloaded(_SENTENCES[reason], retry_after=max(RETRY_SECONDS, math.ceil(late)))


_SENTENCES = {
    "pictures": "as many pictures as allowed are in work",
    "bytes": "as many bytes of uploads as allowed are in memory",
    "deadline": "the answer would come after the deadline",
}
