"""Queue: the items that wait for the engine, in order of arrival and never more than a bound.

Pure: standard library only, and the time is an argument.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.batching.errors import QueueFull


@dataclass(slots=True, eq=False)
class Item:
    """One face that waits. Items are told apart by identity.

    Attributes:
        enqueued: when it was handed in, in seconds of the clock.
        deadline: when its answer is worth nothing any more, likewise.
    """

    enqueued: float
    deadline: float


ItemT = TypeVar("ItemT", bound=Item)


@dataclass(frozen=True, slots=True)
class Taken(Generic[ItemT]):
    """What left the queue: items to work on, and items whose deadline has passed."""

    ready: list[ItemT]
    expired: list[ItemT]


class BoundedQueue(Generic[ItemT]):
    """First in, first out; a group goes in whole or not at all; any item can leave early at no cost.

    Args:
        capacity: the most items that wait at once, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a queue holds at least one item, not {capacity}")
        self.capacity = capacity
        # Ordered by arrival; a dict rather than a deque, so that leaving from the middle is O(1) and leaves no husk.
        self._waiting: OrderedDict[ItemT, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, group: Sequence[ItemT]) -> None:
        """Queue a group of items behind all others.

        Raises:
            QueueFull: if not all of them fit; then none is queued.
        """
        if len(self._waiting) + len(group) > self.capacity:
            raise QueueFull(f"{len(self._waiting)} of {self.capacity} places are taken; {len(group)} were asked for")
        for item in group:
            self._waiting[item] = None

    def take(self, limit: int, now: float) -> Taken[ItemT]:
        """Remove and return up to ``limit`` items that can still be answered, the oldest first.

        Items met on the way whose deadline has passed come back apart and do not count against the limit.
        """
        taken: Taken[ItemT] = Taken([], [])
        while self._waiting and len(taken.ready) < limit:
            item, _ = self._waiting.popitem(last=False)
            (taken.expired if item.deadline <= now else taken.ready).append(item)
        return taken

    def discard(self, item: ItemT) -> bool:
        """Remove an item wherever it stands; return whether it was here."""
        if item not in self._waiting:
            return False
        del self._waiting[item]
        return True

    def clear(self) -> list[ItemT]:
        """Remove and return all items."""
        items = list(self._waiting)
        self._waiting.clear()
        return items
