"""Staging: the batch that is prepared while the engine works on another."""

from typing import Generic, TypeVar

import numpy as np

from manet.vision.preprocess import Pixels
from service.batching.queue import Item

ItemT = TypeVar("ItemT", bound=Item)


class BatchBuffer(Generic[ItemT]):
    """A preallocated batch that grows item by item, always without holes, so that the engine can take it as it is.

    Args:
        capacity: the most items in the batch.
        side: side of the square network input, in pixels.
    """

    def __init__(self, capacity: int, side: int) -> None:
        self._buffer: Pixels = np.zeros((capacity, side, side, 3), dtype=np.uint8)
        self.items: list[ItemT] = []

    def __len__(self) -> int:
        return len(self.items)

    @property
    def room(self) -> int:
        """How many more items fit."""
        return len(self._buffer) - len(self.items)

    @property
    def pixels(self) -> Pixels:
        """The batch, (N, side, side, 3): a view that holds as long as nothing is added or removed."""
        return self._buffer[: len(self.items)]

    def add(self, item: ItemT, pixels: Pixels) -> None:
        """Put an item's network input, (side, side, 3), into the next free place."""
        self._buffer[len(self.items)] = pixels
        self.items.append(item)

    def discard(self, item: ItemT) -> bool:
        """Take an item out, the last one filling its place; return whether it was here."""
        if item not in self.items:
            return False
        place = self.items.index(item)
        last = self.items.pop()
        if last is not item:
            self.items[place] = last
            self._buffer[place] = self._buffer[len(self.items)]
        return True

    def clear(self) -> list[ItemT]:
        """Take all items out and return them."""
        items, self.items = self.items, []
        return items
