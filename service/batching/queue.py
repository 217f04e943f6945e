"""Queue: the items that wait for the engine, each lane in order of arrival, and never more than a bound.

Pure: standard library only, and the time is an argument.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.batching.errors import QueueFullError


@dataclass(slots=True, eq=False)
class Item:
    """One face that waits. Items are distinguished by identity.

    Attributes:
        enqueued: when it was handed in, in seconds of the clock.
        deadline: when its answer is worth nothing any more, likewise.
        lane: whose it is. Lanes take turns, so that one with a hundred items does not keep one with a single item
            waiting.
    """

    enqueued: float
    deadline: float
    lane: object


ItemT = TypeVar("ItemT", bound=Item)


@dataclass(frozen=True, slots=True)
class TakenItems(Generic[ItemT]):
    """What left the queue: items to work on, and items whose deadline has passed."""

    ready: list[ItemT]
    expired: list[ItemT]


class BoundedQueue(Generic[ItemT]):
    """Lanes take turns, and each is first in, first out; any item can leave early at no cost.

    A group goes in whole or not at all.

    Args:
        capacity: the most items that wait at once, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a queue holds at least one item, not {capacity}")
        self.capacity = capacity
        # The lanes in the order of their turns, and the items of each by arrival. Dicts rather than deques, so that
        # leaving from the middle is O(1) and leaves no tombstone.
        self._lanes: OrderedDict[object, OrderedDict[ItemT, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, group: Sequence[ItemT]) -> None:
        """Queue a group of items behind all others of their lanes.

        Raises:
            QueueFullError: if not all of them fit; then none is queued.
        """
        if self._count + len(group) > self.capacity:
            raise QueueFullError(f"{self._count} of {self.capacity} places are taken; {len(group)} were requested")
        for item in group:
            self._lanes.setdefault(item.lane, OrderedDict())[item] = None
        self._count += len(group)

    def take(self, limit: int, now: float) -> TakenItems[ItemT]:
        """Remove and return up to ``limit`` items that can still be answered, the oldest of each lane in turn.

        Items met on the way whose deadline has passed come back apart and do not count against the limit.
        """
        taken: TakenItems[ItemT] = TakenItems([], [])
        while self._lanes and len(taken.ready) < limit:
            lane, items = self._lanes.popitem(last=False)
            item, _ = items.popitem(last=False)
            self._count -= 1
            if items:
                self._lanes[lane] = items  # behind the others
            (taken.expired if item.deadline <= now else taken.ready).append(item)
        return taken

    def discard(self, item: ItemT) -> bool:
        """Remove an item wherever it stands; return whether it was here."""
        items = self._lanes.get(item.lane, OrderedDict())
        if item not in items:
            return False
        del items[item]
        self._count -= 1
        if not items:
            del self._lanes[item.lane]
        return True

    def clear(self) -> list[ItemT]:
        """Remove and return all items."""
        items = [item for lane in self._lanes.values() for item in lane]
        self._lanes.clear()
        self._count = 0
        return items
