"""Places: how many requests, or streams, each client holds at once."""

from collections import Counter
from typing import Protocol


class Places(Protocol):
    """Counts the places of clients. The bounds hold for the whole service, however many processes it has."""

    @property
    def taken(self) -> int:
        """Places that are held in the whole service."""

    def enter(self, client: str, *, most: int | None, most_each: int | None) -> bool:
        """Take a place if the bounds allow it, for all clients and for this one; return whether it was taken."""

    def leave(self, client: str) -> None:
        """Give a place back that was taken."""


class OwnPlaces:
    """The places of a service that is one process."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Places that are held."""
        return self._held.total()

    def enter(self, client: str, *, most: int | None, most_each: int | None) -> bool:
        """Take a place if the bounds allow it; return whether it was taken."""
        if most is not None and self.taken >= most:
            return False
        if most_each is not None and self._held[client] >= most_each:
            return False
        self._held[client] += 1
        return True

    def leave(self, client: str) -> None:
        """Give a place back that was taken; a client that holds none is forgotten."""
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
