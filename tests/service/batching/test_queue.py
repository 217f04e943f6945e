"""The queue: bounded, in order, groups whole, and any item can leave early."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from service.batching.errors import QueueFullError
from service.batching.queue import BoundedQueue, Item


def _items(count: int, *, deadline: float = 100.0, lane: object = None) -> list[Item]:
    return [Item(enqueued=0.0, deadline=deadline, lane=lane) for _ in range(count)]


def _queue(items: list[Item], capacity: int = 8) -> BoundedQueue[Item]:
    queue: BoundedQueue[Item] = BoundedQueue(capacity)
    queue.push(items)
    return queue


def test_items_leave_in_order_of_arrival() -> None:
    items = _items(5)
    queue = _queue(items[:3])
    queue.push(items[3:])

    assert queue.take(2, 0.0).ready == items[:2]
    assert queue.take(9, 0.0).ready == items[2:]
    assert len(queue) == 0


def test_lanes_take_turns() -> None:
    many, few, one = _items(5, lane="many"), _items(2, lane="few"), _items(1, lane="one")
    queue = _queue([*many, *few, *one])

    assert queue.take(4, 0.0).ready == [many[0], few[0], one[0], many[1]]
    late = _items(1, lane="one")
    queue.push(late)
    assert queue.discard(many[2])
    assert queue.take(9, 0.0).ready == [few[1], many[3], late[0], many[4]]
    assert len(queue) == 0


def test_items_that_look_alike_are_distinguished() -> None:
    first, second = _items(2)
    queue = _queue([first, second])

    assert queue.discard(second)
    assert queue.take(2, 0.0).ready[0] is first


def test_a_group_that_does_not_fit_leaves_no_trace() -> None:
    items = _items(3)
    queue = _queue(items, capacity=4)

    with pytest.raises(QueueFullError, match="3 of 4 places are taken; 2 were requested"):
        queue.push(_items(2))

    assert queue.take(9, 0.0).ready == items


def test_the_last_place_can_be_taken() -> None:
    queue = _queue(_items(3), capacity=4)

    queue.push(_items(1))

    assert len(queue) == 4
    with pytest.raises(QueueFullError):
        queue.push(_items(1))


def test_an_empty_group_always_fits() -> None:
    queue = _queue(_items(4), capacity=4)

    queue.push([])

    assert len(queue) == 4


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_queue_without_a_place_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"at least one item, not {capacity}"):
        BoundedQueue(capacity)


def test_an_item_leaves_from_the_middle_and_makes_room() -> None:
    first, middle, last = items = _items(3)
    queue = _queue(items, capacity=3)

    assert queue.discard(middle)
    assert not queue.discard(middle), "it was gone already"

    late = _items(1)
    queue.push(late)
    assert queue.take(9, 0.0).ready == [first, last, *late]


def test_expired_items_come_apart_and_do_not_count_against_the_limit() -> None:
    stale, fresh = _items(2, deadline=5.0), _items(3, deadline=6.0)
    queue = _queue([stale[0], fresh[0], stale[1], fresh[1], fresh[2]])

    taken = queue.take(2, now=5.0)  # at its deadline an answer is too late already

    assert taken.ready == fresh[:2]
    assert taken.expired == stale
    assert queue.clear() == fresh[2:]


def test_nothing_is_taken_when_nothing_is_requested() -> None:
    items = _items(2, deadline=1.0)
    queue = _queue(items)

    taken = queue.take(0, now=50.0)

    assert (taken.ready, taken.expired) == ([], [])
    assert queue.clear() == items
    assert queue.clear() == []


class QueueAgainstAList(RuleBasedStateMachine):
    """The queue does what plain lists do, slowly and plainly: one a lane, in the order of their turns."""

    @initialize(capacity=st.integers(1, 6))
    def begin(self, capacity: int) -> None:
        self.capacity = capacity
        self.queue: BoundedQueue[Item] = BoundedQueue(capacity)
        self.model: list[list[Item]] = []
        self.gone: list[Item] = []
        self.now = 0

    @property
    def waiting(self) -> list[Item]:
        return [item for lane in self.model for item in lane]

    @rule(lives=st.lists(st.integers(0, 5), max_size=4), lane=st.integers(0, 2))
    def push(self, lives: list[int], lane: int) -> None:
        group = [Item(self.now, self.now + life, lane) for life in lives]
        if len(self.waiting) + len(group) <= self.capacity:
            self.queue.push(group)
            [here] = [items for items in self.model if items[0].lane == lane] or [[]]
            if group and not here:
                self.model.append(here)
            here += group
        else:
            with pytest.raises(QueueFullError):
                self.queue.push(group)

    @rule(limit=st.integers(0, 4))
    def take(self, limit: int) -> None:
        ready: list[Item] = []
        expired: list[Item] = []
        while self.model and len(ready) < limit:
            lane = self.model.pop(0)
            item = lane.pop(0)
            if lane:
                self.model.append(lane)
            (ready if item.deadline > self.now else expired).append(item)
        taken = self.queue.take(limit, self.now)
        assert (taken.ready, taken.expired) == (ready, expired)
        self.gone += ready + expired

    @rule(place=st.integers(0, 5))
    def discard(self, place: int) -> None:
        if place < len(self.waiting):
            item = self.waiting[place]
            self.model = [left for lane in self.model if (left := [i for i in lane if i is not item])]
            assert self.queue.discard(item)
            self.gone.append(item)

    @rule()
    def discard_one_that_is_gone(self) -> None:
        assert not any(self.queue.discard(item) for item in self.gone)

    @rule()
    def clear(self) -> None:
        assert self.queue.clear() == self.waiting
        self.gone += self.waiting
        self.model = []

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def holds_as_many(self) -> None:
        assert len(self.queue) == len(self.waiting) <= self.capacity


TestQueueAgainstAList = QueueAgainstAList.TestCase
TestQueueAgainstAList.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
