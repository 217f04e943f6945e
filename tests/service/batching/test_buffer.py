"""The batch that is prepared: pixels and items stay side by side, without holes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.buffer import BatchBuffer
from service.batching.queue import Item


def _pixels(mark: int) -> np.ndarray:
    return np.full((2, 2, 3), mark, np.uint8)


def _staged(*marks: int, capacity: int = 4) -> tuple[BatchBuffer[Item], dict[int, Item]]:
    staging: BatchBuffer[Item] = BatchBuffer(capacity, 2)
    items = {mark: Item(0.0, 1.0, None) for mark in marks}
    for mark, item in items.items():
        staging.add(item, _pixels(mark))
    return staging, items


def _marks(staging: BatchBuffer[Item]) -> list[int]:
    assert all((face == face[0, 0, 0]).all() for face in staging.pixels)
    return [int(face[0, 0, 0]) for face in staging.pixels]


def test_a_new_batch_is_empty() -> None:
    staging, _ = _staged()

    assert (len(staging), staging.room, staging.pixels.shape) == (0, 4, (0, 2, 2, 3))


def test_a_batch_grows_in_order() -> None:
    staging, items = _staged(1, 2, 3)

    assert _marks(staging) == [1, 2, 3]
    assert staging.items == list(items.values())
    assert (len(staging), staging.room) == (3, 1)
    assert staging.pixels.dtype == np.uint8


def test_the_engine_can_take_it_as_it_is() -> None:
    staging, _ = _staged(1, 2, 3)

    assert staging.pixels.flags.c_contiguous
    assert np.shares_memory(staging.pixels, staging.pixels), "a view, not a copy"


def test_pixels_are_copied_in() -> None:
    staging, _ = _staged(capacity=1)
    pixels = _pixels(7)
    staging.add(Item(0.0, 1.0, None), pixels)
    pixels[:] = 8

    assert _marks(staging) == [7]


def test_there_is_no_room_beyond_the_capacity() -> None:
    staging, _ = _staged(1, 2, capacity=2)

    with pytest.raises(IndexError):
        staging.add(Item(0.0, 1.0, None), _pixels(3))
    assert _marks(staging) == [1, 2]
    assert len(staging) == 2


@pytest.mark.parametrize(("leaves", "left"), [(1, [4, 2, 3]), (2, [1, 4, 3]), (4, [1, 2, 3])])
def test_the_last_item_fills_the_place_of_one_that_leaves(leaves: int, left: list[int]) -> None:
    staging, items = _staged(1, 2, 3, 4)

    assert staging.discard(items[leaves])

    assert _marks(staging) == left
    assert staging.items == [items[mark] for mark in left]


def test_an_item_that_is_not_here_cannot_leave() -> None:
    staging, items = _staged(1, 2)

    assert not staging.discard(Item(0.0, 1.0, None))
    assert staging.discard(items[1])
    assert not staging.discard(items[1])
    assert _marks(staging) == [2]


def test_a_cleared_batch_hands_its_items_back_and_can_be_filled_again() -> None:
    staging, items = _staged(1, 2, 3, 4)

    assert staging.clear() == list(items.values())
    assert len(staging) == 0

    staging.add(Item(0.0, 1.0, None), _pixels(9))
    assert _marks(staging) == [9]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4))))
def test_items_and_pixels_never_part(steps: list[tuple[bool, int]]) -> None:
    staging, _ = _staged(capacity=4)
    mark_of: dict[Item, int] = {}
    for mark, (adds, place) in enumerate(steps, start=1):
        if adds and staging.room:
            item = Item(0.0, 1.0, None)
            mark_of[item] = mark % 256
            staging.add(item, _pixels(mark % 256))
        elif place < len(staging):
            assert staging.discard(staging.items[place])
        assert _marks(staging) == [mark_of[item] for item in staging.items]
