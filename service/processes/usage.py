"""Usage: what the front ends have in flight together, so that bounds hold for the whole service.

Each front end writes its own counts only, and adds up those of all. To take a place it counts itself first, then looks
at the sum, and takes the count back where that is over the bound. Of two that take the last place at once, both may be
refused, but never are both admitted.
"""

import threading
import time
from hashlib import blake2b
from math import floor

from limits import RateLimitItem

from service.admission import Kind
from service.inference.detector import DetectorHealth
from service.keys import OWNER
from service.processes.memory import CLIENTS, SharedMemory

_fence = threading.Lock()
"""Taken between writing and reading; no one ever waits for it. The instruction that takes it is a full memory barrier
on x86-64, so no read passes the write. Other processors promise less, but have hundreds of instructions in between."""


def _order() -> None:
    with _fence:
        pass


class SharedUsage:
    """Counts for admission; see ``service.admission.Usage``.

    Args:
        memory: that of all processes.
        front_end: this one's number.
    """

    def __init__(self, memory: SharedMemory, front_end: int) -> None:
        self._counts = memory.counts
        self._own = front_end

    def total(self, kind: Kind) -> int:
        """Return how much all front ends hold."""
        return sum(self._counts[kind])

    def add(self, kind: Kind, amount: int) -> None:
        """Hold so much more, or less, whatever the bound."""
        self._counts[kind][self._own] += amount

    def reserve(self, kind: Kind, amount: int, most: int) -> bool:
        """Hold so much more if all front ends then hold no more than ``most``; return whether it does."""
        self.add(kind, amount)
        _order()
        if self.total(kind) > most:
            self.add(kind, -amount)
            return False
        return True


class ClientHash:
    """Numbers clients below ``CLIENTS``, the same in every process of the service.

    Args:
        secret: of the service, so that no one can choose an address that shares another's number.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def number(self, client: str) -> int:
        """Return a client's number; owners of keys have their own as long as there are no more keys than numbers."""
        if client.startswith(OWNER):
            return int(client.removeprefix(OWNER)) % CLIENTS
        digest = blake2b(client.encode("utf-8", "surrogatepass"), digest_size=8, key=self._secret).digest()
        return int.from_bytes(digest) % CLIENTS


class SharedPlaces:
    """Places of clients on all front ends; see ``service.places.Places``.

    Args:
        held: of each front end, how many places each client has there.
        totals: of each front end, how many all its clients have there.
        front_end: this one's number.
        clients: numbers the clients.
    """

    def __init__(
        self, held: "list[memoryview[int]]", totals: "memoryview[int]", *, front_end: int, clients: ClientHash
    ) -> None:
        self._held = held
        self._totals = totals
        self._own = front_end
        self._clients = clients

    @property
    def taken(self) -> int:
        """Places that are held on all front ends."""
        return sum(self._totals)

    def enter(self, client: str, *, most: int | None, most_each: int | None) -> bool:
        """Take a place if the bounds allow it; return whether it was taken."""
        number = self._clients.number(client)
        self._add(number, 1)
        _order()
        fits = most is None or self.taken <= most
        if fits and most_each is not None:
            fits = sum(held[number] for held in self._held) <= most_each
        if not fits:
            self._add(number, -1)
        return fits

    def leave(self, client: str) -> None:
        """Give a place back that was taken."""
        self._add(self._clients.number(client), -1)

    def _add(self, number: int, amount: int) -> None:
        self._held[self._own][number] += amount
        self._totals[self._own] += amount


class SharedWindow:
    """Requests of clients in a time, on all front ends; see ``service.middleware.rate_limit.RateWindow``.

    The same approximation as in one process: those of the present window, and those of the one before by the share of
    it that a window ending now still covers.

    Args:
        rate: requests in a time.
        memory: that of all processes.
        front_end: this one's number.
        clients: numbers the clients.
    """

    def __init__(self, rate: RateLimitItem, memory: SharedMemory, *, front_end: int, clients: ClientHash) -> None:
        self._most: int = rate.amount
        self._length: int = rate.get_expiry()
        self._windows = memory.windows
        self._own = front_end
        self._clients = clients

    def hit(self, client: str) -> float | None:
        """Count a request and return None, or, if it is one too many, the seconds until another may come."""
        number = self._clients.number(client)
        present, passed = divmod(time.time(), self._length)
        left = self._length - passed
        own = self._windows[self._own]
        self._turn(own, number, int(present))
        own[number, 1] += 1
        _order()
        current, before = self._count(number, int(present))
        if floor(before * left / self._length + current) <= self._most:
            return None
        own[number, 1] -= 1
        return min(left, left % (self._length / before) if before else left)

    @staticmethod
    def _turn(own: "memoryview[int]", number: int, present: int) -> None:
        """Begin the present window. In between, another process sees too many requests and never too few."""
        if own[number, 0] != present:
            own[number, 2] = own[number, 1] if own[number, 0] == present - 1 else 0
            own[number, 0] = present
            own[number, 1] = 0

    def _count(self, number: int, present: int) -> tuple[int, int]:
        """Return a client's requests on all front ends, in the present window and in the one before."""
        current = before = 0
        for row in self._windows:
            window, hits, hits_before = row[number, 0], row[number, 1], row[number, 2]
            if window == present:
                current += hits
                before += hits_before
            elif window == present - 1:
                before += hits
        return current, before


class SharedDetection:
    """The health of the detectors of all front ends; see ``service.inference.detector.DetectorHealth``.

    Args:
        memory: that of all processes.
        front_end: this one's number.
    """

    def __init__(self, memory: SharedMemory, front_end: int) -> None:
        self._failing, self._failed = memory.counts["detector_failing"], memory.counts["detections_failed"]
        self._front_end = front_end
        self._detector: DetectorHealth | None = None

    def of(self, detector: DetectorHealth) -> "SharedDetection":
        """Return this, with the health of the front end's own detector."""
        self._detector = detector
        return self

    def publish(self) -> None:
        """Report the front end's own detector to the others."""
        if self._detector is None:
            return
        self._failing[self._front_end] = not self._detector.alive
        self._failed[self._front_end] = self._detector.failures

    @property
    def alive(self) -> bool:
        """Whether no detector is known to fail."""
        self.publish()
        return not any(self._failing)

    @property
    def failures(self) -> int:
        """Searches that failed, on the front ends that run."""
        self.publish()
        return sum(self._failed)
