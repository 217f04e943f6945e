"""A front end's canvases in the engine's process, both ends in one process: slots, losses, failures, hangs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manet.vision.face_network import MOST_CANDIDATES, Candidates
from manet.vision.preprocess import Pixels
from service.concurrency import Workers
from service.errors import NotReadyError
from service.inference.batched_faces import BatchedFaceNetwork
from service.processes.channel import pair
from service.processes.detection import DetectionServer
from service.processes.memory import NUMBERS, Layout, SharedMemory
from service.processes.remote_faces import RemoteFaceNetwork
from testing.front_ends import BREAK_FACES, HOLD_FACES, FakeFaceNetwork

pytestmark = pytest.mark.anyio

BRIGHT = np.full((160, 288, 3), 255, np.uint8)
DARK = np.zeros((288, 160, 3), np.uint8)


class Ends:
    """Both ends of a service of two front ends with two slots each, around a fake network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.memory = SharedMemory.create(Layout(2, 1, 8, 3, canvases=2))
        self.network = BatchedFaceNetwork(FakeFaceNetwork(folder), timeout=20)
        self.server = DetectionServer(self.memory, self.network, timeout=1.0)
        self.front_ends = [RemoteFaceNetwork(self.memory, number) for number in range(2)]
        for number in range(2):
            self.connect(number)

    def connect(self, number: int) -> None:
        one, other = pair()
        self.server.connect(number, one)
        self.front_ends[number].connect(other)

    @property
    def batches(self) -> list[int]:
        return list(map(int, (self.folder / "batches").read_text().split()))

    def look(self, number: int, canvas: Pixels = BRIGHT) -> "asyncio.Task[Candidates]":
        """Return what a worker of a front end finds."""
        return asyncio.create_task(asyncio.to_thread(self.front_ends[number].candidates, canvas, 0.5))

    async def hold(self, count: int) -> "list[asyncio.Task[Candidates]]":
        """Return looks that wait: the first in the network, the others behind it."""
        (self.folder / HOLD_FACES).touch()
        looks = [self.look(0)]
        await until(lambda: self.network.running is not None)
        looks += [self.look(number % 2) for number in range(1, count)]
        await until(lambda: len(self.server._looking) == count)
        return looks

    def release(self) -> None:
        (self.folder / HOLD_FACES).unlink()


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0.005)


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    made = Ends(tmp_path)
    yield made
    (tmp_path / HOLD_FACES).unlink(missing_ok=True)
    made.network.close()
    for front_end in made.front_ends:
        front_end.close()
    await asyncio.sleep(0.05)  # the other ends see it


async def test_canvases_of_two_front_ends_meet_in_a_batch_and_each_gets_its_own_answer(ends: Ends) -> None:
    looks = await ends.hold(4)
    ends.release()
    found = [await look for look in looks]

    assert ends.batches == [1, 3]
    for candidates in found:
        assert candidates.places.tolist() == [2 * (20 * 5 * 9 + 2 * 9 + 4)]
        assert candidates.scores == pytest.approx([0.995])
        assert (candidates.offsets.shape, candidates.points.shape) == ((1, 4), (1, 10))
    assert len((await ends.look(1, DARK)).places) == 0
    assert len((await ends.look(1)).places) == 1


async def test_no_more_canvases_are_handed_in_than_there_are_slots(ends: Ends) -> None:
    looks = await ends.hold(1)
    looks += [ends.look(0) for _ in range(5)]
    await until(lambda: len(ends.server._looking) == 2)
    await asyncio.sleep(0.1)
    assert len(ends.server._looking) == ends.front_ends[0].threads == 2
    ends.release()

    assert [len((await look).places) for look in looks] == [1] * 6


async def test_a_canvas_that_the_network_fails_on_fails_alone(ends: Ends) -> None:
    looks = await ends.hold(2)
    looks.append(ends.look(1, np.full_like(BRIGHT, (200, 0, 0))))
    await until(lambda: len(ends.server._looking) == 3)
    ends.release()
    outcomes: list[Any] = await asyncio.gather(*looks, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [Candidates, Candidates, RuntimeError]
    assert not ends.server.lost


async def test_an_engine_that_is_gone_fails_what_waits_and_what_comes_until_there_is_another(ends: Ends) -> None:
    looks = await ends.hold(4)
    for number in range(2):
        ends.server._channels[number].close()
    outcomes = await asyncio.gather(*looks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NotReadyError] * 4
    with pytest.raises(NotReadyError, match="started again"):
        await ends.look(0)

    ends.release()
    for number in range(2):
        ends.connect(number)
    assert [len((await ends.look(number)).places) for number in (0, 1, 0, 1, 0, 1)] == [1] * 6, "all slots are free"


async def test_a_front_end_that_is_gone_takes_its_canvases_with_it(ends: Ends) -> None:
    looks = await ends.hold(4)
    ends.front_ends[0].close()
    await until(lambda: {front_end for front_end, _ in ends.server._looking} == {1})
    ends.front_ends[0] = RemoteFaceNetwork(ends.memory, 0)  # as a new process has it
    ends.connect(0)
    again = [ends.look(0, DARK) for _ in range(4)]
    await until(lambda: len(ends.server._looking) == 4)
    ends.release()
    outcomes = await asyncio.gather(*looks, *again, return_exceptions=True)

    assert [isinstance(outcome, Candidates) for outcome in outcomes] == [False, True, False, True, *[True] * 4]
    assert [len(outcome.places) for outcome in outcomes[4:] if isinstance(outcome, Candidates)] == [0] * 4
    assert sum(ends.batches) == 1 + 2 + 4, "what it had handed in and no one had begun is never looked at"


async def test_a_canvas_whose_caller_has_left_is_not_searched(ends: Ends) -> None:
    [held] = await ends.hold(1)
    workers = Workers(2, "image")
    find = partial(ends.front_ends[1].candidates, BRIGHT, 0.5)
    staying, leaving = workers.run(find), workers.run(find)
    await until(lambda: len(ends.server._looking) == 3)
    leaving.cancel()
    await until(lambda: len(ends.server._looking) == 2)
    again = workers.run(find)  # in the worker and the slot of the one that left
    await until(lambda: len(ends.server._looking) == 3)
    ends.release()

    assert [len((await found).places) for found in (held, staying, again)] == [1] * 3
    assert ends.batches == [1, 2]
    workers.close()


async def test_a_caller_that_leaves_while_its_canvas_is_searched_asks_for_no_other(ends: Ends) -> None:
    (ends.folder / HOLD_FACES).touch()
    workers, outcomes = Workers(1, "image"), list[int]()

    def find_twice() -> None:
        for _ in range(2):
            outcomes.append(len(ends.front_ends[1].candidates(BRIGHT, 0.5).places))

    leaving = workers.run(find_twice)
    await until(lambda: ends.network.running is not None)
    leaving.cancel()
    await asyncio.sleep(0.05)  # the engine's process is told
    ends.release()
    await workers.run(lambda: None)

    assert (outcomes, ends.batches) == ([1], [1])
    workers.close()


async def test_a_network_that_hangs_or_fails_on_everything_is_lost(ends: Ends) -> None:
    [held] = await ends.hold(1)
    ends.server.look(60)  # however long ago the last look was
    lost = []
    for _ in range(11):
        lost.append(ends.server.lost)
        ends.server.look(0.1)
    lost.append(ends.server.lost)
    ends.release()
    await held
    ends.server.look(0.1)
    lost.append(ends.server.lost)
    assert lost == [*[False] * 11, True, False]

    (ends.folder / BREAK_FACES).touch()
    with pytest.raises(RuntimeError, match="fails on this canvas"):
        await ends.look(0)
    assert ends.server.lost


async def test_once_its_thread_has_ended_every_canvas_fails(ends: Ends) -> None:
    ends.network.close()
    await until(lambda: ends.server.lost)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="fails on this canvas"):
            await ends.look(0)


async def test_a_closed_front_end_refuses(ends: Ends) -> None:
    [held] = await ends.hold(1)
    ends.front_ends[0].close()

    for look in (held, ends.look(0)):
        with pytest.raises(NotReadyError):
            await look


def test_a_slot_holds_the_largest_canvas_and_the_most_candidates() -> None:
    memory = SharedMemory.create(Layout(2, 1, 8, 3, canvases=2))
    numbers = np.random.default_rng(0).random((MOST_CANDIDATES, NUMBERS), np.float32)
    found = Candidates(np.arange(MOST_CANDIDATES), numbers[:, 0], numbers[:, 1:5], numbers[:, 5:])
    for front_end in range(2):
        for slot in range(2):
            memory.canvas(front_end, slot, 800, 800)[:] = 10 * front_end + slot
    memory.put_candidates(1, 0, found)

    for part, wanted in zip(memory.candidates(1, 0, MOST_CANDIDATES), found, strict=True):
        np.testing.assert_array_equal(part, wanted)
    assert [int(memory.canvas(*place, 800, 800).mean()) for place in ((0, 0), (0, 1), (1, 0), (1, 1))] == [0, 1, 10, 11]
    assert len(memory.candidates(0, 1, 0).places) == 0
