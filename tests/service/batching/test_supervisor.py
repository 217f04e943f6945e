"""A lost engine: who is told, what is built in its place, and when that is given up."""

import asyncio
import threading
from functools import partial
from itertools import pairwise

import pytest

from service.batching.errors import EngineUnavailableError
from service.batching.supervisor import EngineSupervisor, Recovery, out_of_memory
from tests.service.batching.conftest import FakeEngine, MakeRig, Rig, settled

pytestmark = pytest.mark.anyio

BLANKS = [[0], [0] * 4]
TIMEOUT = 30.0


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's is."""


NO_MEMORY = [MemoryError(), OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")]


def _pauses(rig: Rig, seconds: float) -> bool:
    return rig.clock.next_in == seconds


async def reason(image: "asyncio.Task[list[int]]") -> str:
    """Return why an image was refused."""
    with pytest.raises(EngineUnavailableError) as caught:
        await image
    return str(caught.value)


async def let_hang(rig: Rig) -> "list[asyncio.Task[list[int]]]":
    """Hand in two images, one for the engine and one to wait, and let the time pass until it is taken to hang."""
    rig.engine.hold()
    images = [await rig.submit(1)]
    await rig.engine.entered()
    images.append(await rig.submit(2))
    for _half in range(2):
        assert not any(image.done() for image in images)
        await rig.clock.advance(TIMEOUT / 2)
    return images


async def pass_closing(rig: Rig) -> None:
    """Let the time pass in which a hanging engine could still close."""
    for _half in range(2):
        await rig.clock.advance(EngineSupervisor.CLOSING / 2)


async def test_an_engine_that_fails_on_everything_is_built_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    first = rig.engine
    first.dead = True
    assert await reason(await rig.submit(1, 2)) == "the network fails on every batch"
    await settled(lambda: rig.scheduler.alive)

    assert (first.closed, len(rig.engines), rig.scheduler.rebuilt) == (1, 2, 1)
    assert (rig.engine.warmed, rig.engine.batches) == ([1, 4], BLANKS)
    assert await (await rig.submit(7)) == [7]
    assert not rig.scheduler.dead
    assert "the engine was rebuilt, at attempt 1" in caplog.text


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
async def test_an_engine_without_memory_is_closed_before_another_is_built(rig: Rig, error: Exception) -> None:
    first = rig.engine
    closed: list[int] = []
    rig.prepare = lambda engine: closed.append(first.closed)
    first.error = error

    assert await reason(await rig.submit(1, 2, 3, 4)) == "the network ran out of memory"
    await settled(lambda: rig.scheduler.alive)

    assert first.batches == [[1, 2, 3, 4]], "what needs memory is not tried again on an engine that has none"
    assert closed == [1]
    assert await (await rig.submit(5)) == [5]


@pytest.mark.parametrize("error", [RuntimeError("out of order"), ValueError("can't allocate memory"), TimeoutError()])
def test_other_failures_are_not_taken_for_want_of_memory(error: Exception) -> None:
    assert not out_of_memory(error)


async def test_an_engine_that_hangs_is_abandoned_and_another_built(rig: Rig) -> None:
    first = rig.engine
    images = await let_hang(rig)

    assert [await reason(image) for image in images] == ["the network hangs"] * 2
    assert not rig.scheduler.alive
    assert await reason(await rig.submit(3)) == "the network hangs"
    await pass_closing(rig)
    await settled(lambda: rig.scheduler.alive)

    assert await (await rig.submit(4)) == [4]
    assert rig.scheduler.abandoned == 1
    first.let_go()
    await settled(lambda: rig.scheduler.abandoned == 0)
    assert first.closed == 1, "it returned after all, and its memory is let go"
    assert rig.scheduler.rebuilt == 1


async def test_a_process_that_was_frozen_does_not_take_its_engine_for_hanging(rig: Rig) -> None:
    rig.engine.hold()
    image = await rig.submit(1)
    await rig.engine.entered()
    await rig.clock.advance(1000.0)
    rig.engine.let_go()

    assert await image == [1]
    assert rig.scheduler.alive
    assert len(rig.engines) == 1


async def test_what_cannot_be_built_is_tried_after_growing_pauses_and_then_given_up(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[float] = []

    def fail(_: FakeEngine) -> None:
        tried.append(rig.clock.now())
        raise RuntimeError("no such device")

    rig.prepare = fail
    rig.engine.dead = True
    await reason(await rig.submit(1, 2))
    for pause in (1.0, 2.0, 4.0, 8.0, 16.0):
        await settled(partial(_pauses, rig, pause))
        assert not rig.scheduler.dead
        await rig.clock.advance(pause)
    await settled(lambda: rig.scheduler.dead)

    assert [after - before for before, after in pairwise(tried)] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert not rig.scheduler.alive
    assert await reason(await rig.submit(1)) == "the network fails on every batch"
    assert "did not help 6 times in succession" in caplog.text


async def test_an_engine_that_was_built_but_does_not_answer_is_no_success(rig: Rig) -> None:
    def first_time_dead(engine: FakeEngine) -> None:
        engine.poison = {0} if len(rig.engines) == 1 else set()

    rig.prepare = first_time_dead
    rig.engine.dead = True
    await reason(await rig.submit(1, 2))
    await settled(lambda: rig.clock.next_in == 1.0)
    assert not rig.scheduler.alive
    await rig.clock.advance(1.0)
    await settled(lambda: rig.scheduler.alive)

    assert [engine.closed for engine in rig.engines] == [1, 1, 0]
    assert rig.scheduler.rebuilt == 1


async def test_attempts_are_reset_once_a_request_is_answered_and_not_before(make_rig: MakeRig) -> None:
    rig = await make_rig(recovery=Recovery(attempts=1))
    for mark in (1, 2):
        rig.engine.dead = True
        await reason(await rig.submit(mark, mark))
        await settled(lambda: rig.scheduler.alive)
        assert await (await rig.submit(9)) == [9]

    for _ in range(2):
        assert not rig.scheduler.dead
        rig.engine.dead = True
        await reason(await rig.submit(3, 3))
        await settled(lambda: rig.scheduler.alive or rig.scheduler.dead)
    assert rig.scheduler.dead


async def test_engines_that_hang_are_bounded(make_rig: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
    rig = await make_rig(recovery=Recovery(abandoned=1))
    await let_hang(rig)
    await pass_closing(rig)
    await settled(lambda: rig.scheduler.alive)
    await (await rig.submit(5))
    rig.engine.forget()
    await let_hang(rig)
    await pass_closing(rig)
    await settled(lambda: rig.scheduler.dead)

    assert rig.scheduler.abandoned == 2
    assert len(rig.engines) == 2
    assert "2 engines hang already" in caplog.text


async def test_a_build_that_hangs_is_abandoned_too(rig: Rig) -> None:
    gate, entered = threading.Event(), threading.Event()

    def hang(_: FakeEngine) -> None:
        entered.set()
        assert gate.wait(10.0)

    rig.prepare = hang
    rig.engine.dead = True
    await reason(await rig.submit(1, 2))
    await settled(entered.is_set)
    rig.prepare = lambda engine: None
    for _half in range(2):
        await rig.clock.advance(EngineSupervisor.BUILDING / 2)
    await settled(lambda: rig.clock.next_in == 1.0)
    assert rig.scheduler.abandoned == 1
    await rig.clock.advance(1.0)
    await settled(lambda: rig.scheduler.alive)

    assert await (await rig.submit(3)) == [3]
    gate.set()
    await settled(lambda: rig.scheduler.abandoned == 0)


@pytest.mark.parametrize("fault", ["fails", "hangs", "memory"])
async def test_where_nothing_is_to_be_built_a_lost_engine_is_the_end(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    rig = await make_rig(rebuild=False)
    if fault == "hangs":
        images = await let_hang(rig)
        await pass_closing(rig)
    else:
        rig.engine.error = MemoryError() if fault == "memory" else RuntimeError("out of order")
        images = [await rig.submit(1, 2)]
    words = {"fails": "fails on every batch", "hangs": "hangs", "memory": "ran out of memory"}[fault]

    assert [await reason(image) for image in images] == [f"the network {words}"] * len(images)
    await settled(lambda: rig.scheduler.dead)
    assert not rig.scheduler.alive
    assert await reason(await rig.submit(3)) == f"the network {words}"
    assert "it is not to be rebuilt" in caplog.text


async def test_it_can_be_stopped_between_two_attempts(rig: Rig) -> None:
    def fail(_: FakeEngine) -> None:
        raise RuntimeError("no such device")

    rig.prepare = fail
    rig.engine.dead = True
    await reason(await rig.submit(1, 2))
    await settled(lambda: rig.clock.next_in == 1.0)
    await rig.stop()

    assert not rig.scheduler.dead, "a stop is no death"
    assert rig.engine.closed == 1


def test_pauses_double_up_to_the_longest() -> None:
    recovery = Recovery(pause=2.0, longest=10.0)

    assert [recovery.delay(attempts) for attempts in range(6)] == [0.0, 2.0, 4.0, 8.0, 10.0, 10.0]
