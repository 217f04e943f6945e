"""The life of the scheduler: its start, its end, and the death of its own task."""

import asyncio
import threading

import pytest

from manet.backends.base import Logits
from service.batching.errors import (
    BatchingError,
    EngineUnavailableError,
)
from service.batching.supervisor import EngineSupervisor
from tests.service.batching.conftest import MakeRig, Rig, breathe, fails, settled

pytestmark = pytest.mark.anyio

BLANK = [0]


async def test_starting_warms_the_engine_up_and_sees_a_batch_of_each_warm_size_come_back(make_rig: MakeRig) -> None:
    rig = await make_rig(started=False)
    before = rig.scheduler.alive

    await rig.scheduler.start()

    assert rig.engine.warmed == [1, 4]
    assert rig.engine.batches == [BLANK, BLANK * 4]
    assert (before, rig.scheduler.alive) == (False, True)
    assert rig.observer.batches == []


@pytest.mark.parametrize(("warm", "asked"), [([1], [BLANK]), ([16, 2, 1], [BLANK, BLANK * 2, BLANK * 4])])
async def test_an_engine_that_warms_other_sizes_sees_batches_of_these(
    make_rig: MakeRig, warm: list[int], asked: list[list[int]]
) -> None:
    rig = await make_rig(started=False)
    rig.engine.warm = warm

    await rig.scheduler.start()

    assert (rig.engine.warmed, rig.engine.batches) == ([1, 4], asked)


async def test_an_engine_for_single_items_is_warmed_up_once(make_rig: MakeRig) -> None:
    rig = await make_rig(started=False, max_batch_size=1)
    await rig.scheduler.start()

    assert (rig.engine.warmed, rig.engine.batches) == ([1], [BLANK])


async def test_nothing_is_taken_before_the_start(make_rig: MakeRig) -> None:
    rig = await make_rig(started=False)

    assert await fails(await rig.submit(1), EngineUnavailableError)
    assert rig.scheduler.depth == 0


@pytest.mark.parametrize("where", ["warmup", "infer"])
async def test_an_engine_that_fails_at_the_start_begins_nothing(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    rig = await make_rig(started=False)

    def fail(_: object) -> Logits:
        raise RuntimeError("no such device")

    monkeypatch.setattr(rig.engine, where, fail)
    with pytest.raises(RuntimeError, match="no such device"):
        await rig.scheduler.start()

    assert not rig.scheduler.alive
    assert await fails(await rig.submit(1), EngineUnavailableError)


async def test_what_was_accepted_is_answered_before_it_is_idle_and_can_be_stopped(rig: Rig) -> None:
    rig.engine.hold()
    images = [await rig.submit(mark) for mark in range(1, 8)]
    assert not rig.scheduler.idle
    rig.engine.let_go()
    await settled(lambda: rig.scheduler.idle)

    await rig.stop()

    assert await asyncio.gather(*images) == [[mark] for mark in range(1, 8)]
    assert rig.engine.closed == 1
    assert await fails(await rig.submit(9), EngineUnavailableError)
    assert not rig.scheduler.alive


async def test_stopping_refuses_what_waits_and_what_runs(make_rig: MakeRig) -> None:
    rig = await make_rig(max_batch_size=2)
    rig.engine.hold()
    images = [await rig.submit(mark) for mark in range(1, 6)]  # one running, two prepared, two in the queue
    await rig.engine.entered()
    stopping = asyncio.create_task(rig.stop())

    for image in images:
        assert await fails(image, EngineUnavailableError)
    assert not stopping.done(), "the engine is still at work and cannot be closed"
    assert await fails(await rig.submit(9), EngineUnavailableError)
    rig.engine.let_go()
    await stopping

    assert rig.engine.closed == 1
    assert rig.engine.batches == [[1]]
    assert rig.scheduler.depth == 0


async def test_stopping_does_not_wait_for_an_engine_that_hangs(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.engine.hold()
    image = await rig.submit(1)
    await rig.engine.entered()

    stopping = asyncio.create_task(rig.stop())
    await breathe()
    for _half in range(2):
        assert not stopping.done()
        await rig.clock.advance(EngineSupervisor.CLOSING / 2)
    await stopping

    assert await fails(image, EngineUnavailableError)
    assert rig.engine.closed == 0
    assert "did not return" in caplog.text


async def test_an_engine_that_fails_to_close_does_not_leave_its_thread_behind(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await make_rig()
    threads: list[threading.Thread] = []

    def fail() -> None:
        threads.append(threading.current_thread())
        raise RuntimeError("busy")

    monkeypatch.setattr(rig.engine, "close", fail)
    await rig.stop()

    assert "the engine failed to close" in caplog.text
    threads[0].join(5.0)
    assert not threads[0].is_alive()


async def test_a_scheduler_that_was_never_started_can_be_stopped(make_rig: MakeRig) -> None:
    rig = await make_rig(started=False)
    await rig.stop()

    assert rig.engine.closed == 1


@pytest.mark.parametrize("call", ["waited", "completed"])
async def test_the_death_of_its_own_task_is_noticed_and_leaves_no_one_waiting(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    rig = await make_rig(max_batch_size=2)

    def fail(*_: object) -> None:
        raise SystemError("a bug")

    rig.engine.hold()
    images = [await rig.submit(mark) for mark in range(1, 6)]
    await rig.engine.entered()
    monkeypatch.setattr(rig.observer, call, fail)
    rig.engine.let_go()

    results = await asyncio.gather(*images, return_exceptions=True)

    assert all(isinstance(result, BatchingError) or result == [1] for result in results), results
    assert isinstance(results[-1], EngineUnavailableError)
    assert not rig.scheduler.alive
    assert rig.scheduler.dead
    assert rig.scheduler.depth == 0
    assert await fails(await rig.submit(9), EngineUnavailableError)
    assert "the scheduler died" in caplog.text
