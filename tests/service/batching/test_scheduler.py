"""The scheduler: DESIGN's batching policy, with a clock and an engine in the test's hands."""

import asyncio
import logging
import math

import numpy as np
import pytest

from service.batching.errors import (
    DeadlinePassedError,
    EngineUnavailableError,
    ItemFailedError,
    QueueFullError,
)
from tests.service.batching.conftest import MakeRig, Rig, fails, settled

pytestmark = pytest.mark.anyio

BLANK = [0]
SIDE = 2


# -- batches: work-conserving, in order, one prepared ahead


async def test_an_idle_engine_takes_one_item_at_once(rig: Rig) -> None:
    image = await rig.submit(7)

    assert await image == [7]
    assert rig.engine.batches == [[7]]
    assert rig.clock.time == 1000.0, "nothing waited for time to pass"
    assert rig.scheduler.idle


async def test_while_the_engine_works_the_next_batch_grows(rig: Rig) -> None:
    rig.engine.hold()
    first = await rig.submit(1)
    assert await rig.engine.entered() == [1]
    assert (rig.scheduler.depth, rig.scheduler.idle) == (0, False), "what runs does not wait, but is not done"
    later = [await rig.submit(mark) for mark in (2, 3, 4)]

    assert rig.scheduler.depth == 3
    assert not rig.scheduler.idle
    rig.engine.release()

    assert await first == [1]
    assert await rig.engine.entered() == [2, 3, 4]
    rig.engine.release()
    assert list(await asyncio.gather(*later)) == [[2], [3], [4]]


async def test_a_batch_has_at_most_the_largest_size_and_order_is_kept(rig: Rig) -> None:
    rig.engine.hold()
    images = [await rig.submit(mark) for mark in range(1, 11)]
    rig.engine.let_go()

    assert await asyncio.gather(*images) == [[mark] for mark in range(1, 11)]
    assert rig.engine.batches == [[1], [2, 3, 4, 5], [6, 7, 8, 9], [10]]


async def test_exactly_one_batch_is_prepared_ahead(make_rig: MakeRig) -> None:
    rig = await make_rig(max_batch_size=2, capacity=3)
    rig.engine.hold()
    images = [await rig.submit(1)]
    await rig.engine.entered()
    images += [await rig.submit(mark) for mark in (2, 3, 4, 5, 6)]  # two prepared, three in the queue
    assert rig.scheduler.depth == 5

    assert await fails(await rig.submit(7), QueueFullError)

    assert rig.scheduler.depth == 5
    rig.engine.let_go()
    assert list(await asyncio.gather(*images)) == [[1], [2], [3], [4], [5], [6]]


async def test_the_next_batch_is_prepared_as_soon_as_the_last_one_starts(make_rig: MakeRig) -> None:
    rig = await make_rig(max_batch_size=1, capacity=2)
    rig.engine.hold()
    images = [await rig.submit(mark) for mark in (1, 2, 3, 4)]  # running, prepared, and two in the queue
    assert await rig.engine.entered() == [1]
    rig.engine.release()
    assert await rig.engine.entered() == [2]

    images.append(await rig.submit(5))  # in the place of the one that is prepared now

    assert await fails(await rig.submit(6), QueueFullError)
    rig.engine.let_go()
    assert list(await asyncio.gather(*images)) == [[1], [2], [3], [4], [5]]


async def test_a_running_batch_is_not_touched_by_the_one_prepared_behind_it(rig: Rig) -> None:
    rig.engine.hold()
    images = [await rig.submit(mark, mark + 1, mark + 2, mark + 3) for mark in (1, 11, 21)]
    for _ in images:  # a buffer is used again while the other is in the engine
        await rig.engine.entered()
        rig.engine.release()

    assert list(await asyncio.gather(*images)) == [[1, 2, 3, 4], [11, 12, 13, 14], [21, 22, 23, 24]]


async def test_an_image_with_more_faces_than_a_batch_is_spread_and_answered_in_order(rig: Rig) -> None:
    image = await rig.submit(*range(1, 7))

    assert await image == [1, 2, 3, 4, 5, 6]
    assert rig.engine.batches == [[1, 2, 3, 4], [5, 6]]


async def test_images_share_batches_and_get_their_own_answers(rig: Rig) -> None:
    rig.engine.hold()
    images = [await rig.submit(*marks) for marks in ([1], [2, 3], [4, 5, 6])]
    rig.engine.let_go()

    assert list(await asyncio.gather(*images)) == [[1], [2, 3], [4, 5, 6]]
    assert rig.engine.batches == [[1], [2, 3, 4, 5], [6]]


async def test_a_group_that_does_not_fit_leaves_no_trace(make_rig: MakeRig) -> None:
    rig = await make_rig(max_batch_size=1, capacity=2)
    rig.engine.hold()
    images = [await rig.submit(mark) for mark in (1, 2, 3)]  # running, prepared, queued

    assert await fails(await rig.submit(4, 5), QueueFullError)

    images.append(await rig.submit(6))
    rig.engine.let_go()
    assert list(await asyncio.gather(*images)) == [[1], [2], [3], [6]]
    assert rig.engine.batches == [[1], [2], [3], [6]]


async def test_an_image_without_faces_costs_nothing(rig: Rig) -> None:
    assert await (await rig.submit()) == []
    assert rig.engine.batches == []


@pytest.mark.parametrize("shape", [(3, 3, 3), (2, 2), (1, 1, 3), (3,)])
async def test_a_face_of_another_shape_is_its_caller_s_fault_alone(rig: Rig, shape: tuple[int, ...]) -> None:
    rig.engine.hold()
    running = await rig.submit(1)
    ahead = await rig.submit(2, 3, 4, 5)  # the batch that is prepared is full, so the next would go to the queue
    faces = [np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros(shape, np.uint8)]

    with pytest.raises(ValueError, match="shape"):
        async with asyncio.timeout(1.0):
            await rig.scheduler.submit(faces, deadline=math.inf)

    assert rig.scheduler.depth == 4
    rig.engine.let_go()
    assert list(await asyncio.gather(running, ahead)) == [[1], [2, 3, 4, 5]]
    assert await (await rig.submit(6)) == [6]


# -- the window


async def test_a_window_keeps_an_idle_engine_waiting_for_company(make_rig: MakeRig) -> None:
    rig = await make_rig(window=0.5)
    first = await rig.submit(1)
    await rig.clock.advance(0.25)
    second = await rig.submit(2)  # the window counts from the first
    await rig.clock.advance(0.2)
    assert rig.engine.batches == []

    await rig.clock.advance(0.05)

    assert list(await asyncio.gather(first, second)) == [[1], [2]]
    assert rig.engine.batches == [[1, 2]]


async def test_a_full_batch_ends_the_window(make_rig: MakeRig) -> None:
    rig = await make_rig(window=0.5)

    first = await rig.submit(1)
    assert rig.engine.batches == []
    second = await rig.submit(2, 3, 4)

    assert list(await asyncio.gather(first, second)) == [[1], [2, 3, 4]]
    assert rig.engine.batches == [[1, 2, 3, 4]]
    assert rig.clock.time == 1000.0


async def test_a_window_that_passed_while_the_engine_worked_is_not_waited_for_again(make_rig: MakeRig) -> None:
    rig = await make_rig(window=0.5)
    rig.engine.hold()
    first = await rig.submit(1, 2, 3, 4)
    await rig.engine.entered()
    second = await rig.submit(5)
    await rig.clock.advance(0.5)

    rig.engine.let_go()

    assert list(await asyncio.gather(first, second)) == [[1, 2, 3, 4], [5]]


async def test_items_that_all_leave_during_the_window_start_no_batch(make_rig: MakeRig) -> None:
    rig = await make_rig(window=0.5)
    image = await rig.submit(1, 2)
    image.cancel()
    await rig.clock.advance(0.5)

    assert rig.scheduler.idle
    assert rig.engine.batches == []


# -- deadlines


async def test_an_item_that_expires_while_it_waits_never_reaches_the_engine(rig: Rig) -> None:
    rig.engine.hold()
    running = await rig.submit(1)
    await rig.engine.entered()
    prepared = await rig.submit(2, 3, within=1.0)
    kept = await rig.submit(4, 5, within=1.5)
    queued = await rig.submit(6, within=1.0)
    last = await rig.submit(7, within=1.5)

    await rig.clock.advance(1.0)  # an answer at the deadline is too late already
    rig.engine.let_go()

    assert list(await asyncio.gather(running, kept, last)) == [[1], [4, 5], [7]]
    assert await fails(prepared, DeadlinePassedError)
    assert await fails(queued, DeadlinePassedError)
    assert {mark for batch in rig.engine.batches for mark in batch} == {1, 4, 5, 7}
    assert len(rig.engine.batches) == 2, "the places of the expired were not filled from the queue"


async def test_an_item_that_is_late_already_is_refused_at_once(rig: Rig) -> None:
    assert await fails(await rig.submit(1, within=0.0), DeadlinePassedError)

    assert rig.engine.batches == []
    assert rig.scheduler.idle


async def test_an_item_in_the_engine_at_its_deadline_is_still_answered(rig: Rig) -> None:
    rig.engine.hold()
    image = await rig.submit(1, within=1.0)
    await rig.engine.entered()
    await rig.clock.advance(5.0)
    rig.engine.let_go()

    assert await image == [1]


async def test_the_expected_wait_is_known_from_the_start_and_follows_what_batches_take(make_rig: MakeRig) -> None:
    rig = await make_rig(started=False)
    rig.engine.seconds = lambda size: 1.0 if size == 1 else 3.0
    await rig.start()

    assert rig.scheduler.expected_wait() == 1.0
    assert rig.scheduler.expected_wait(ahead=3) == 3.0
    assert rig.scheduler.expected_wait(ahead=4) == 4.0

    rig.engine.seconds = lambda size: 2.0
    await (await rig.submit(1))
    assert rig.scheduler.expected_wait() == pytest.approx(1.0 + 0.2 * (2.0 - 1.0))


async def test_a_batch_that_failed_does_not_count_in_the_expected_time(make_rig: MakeRig) -> None:
    rig = await make_rig(started=False)
    rig.engine.seconds = lambda size: 1.0
    await rig.start()
    rig.engine.poison = {1}
    rig.engine.seconds = lambda size: 60.0
    await fails(await rig.submit(1), ItemFailedError)

    assert rig.scheduler.expected_wait() == 1.0


async def test_the_expected_wait_counts_the_running_batch_the_prepared_and_the_queued(make_rig: MakeRig) -> None:
    rig = await make_rig(started=False)
    rig.engine.seconds = float
    await rig.start()
    rig.engine.hold()
    await rig.submit(1)
    await rig.engine.entered()
    await rig.submit(2, 3, 4, 5)
    await rig.submit(6, 7, 8)
    assert rig.scheduler.depth == 7

    before = rig.scheduler.expected_wait()
    await rig.clock.advance(0.5)
    after = rig.scheduler.expected_wait()
    await rig.clock.advance(9.0)

    assert before == 1.0 + 4.0 + 4.0
    assert before - after == 0.5
    assert rig.scheduler.expected_wait() == 4.0 + 4.0, "an overdue batch is expected any moment"


# -- cancellation


async def test_a_cancelled_image_leaves_the_queue_and_the_prepared_batch(rig: Rig) -> None:
    rig.engine.hold()
    running = await rig.submit(1)
    await rig.engine.entered()
    leaver = await rig.submit(2, 3, 4, 5, 6)  # four prepared, one in the queue
    stayer = await rig.submit(7)
    leaver.cancel()
    assert await fails(leaver, asyncio.CancelledError)
    assert rig.scheduler.depth == 1

    rig.engine.let_go()

    assert list(await asyncio.gather(running, stayer)) == [[1], [7]]
    assert rig.engine.batches == [[1], [7]]


async def test_the_places_of_a_cancelled_image_are_filled_from_the_queue(rig: Rig) -> None:
    rig.engine.hold()
    running = await rig.submit(1)
    await rig.engine.entered()
    leaver = await rig.submit(2, 3)
    stayers = [await rig.submit(4, 5), await rig.submit(6, 7)]
    leaver.cancel()
    await fails(leaver, asyncio.CancelledError)

    rig.engine.let_go()

    assert list(await asyncio.gather(running, *stayers)) == [[1], [4, 5], [6, 7]]
    assert [sorted(batch) for batch in rig.engine.batches] == [[1], [4, 5, 6, 7]]


async def test_the_places_of_a_cancelled_image_can_be_taken_at_once(make_rig: MakeRig) -> None:
    rig = await make_rig(max_batch_size=2, capacity=2)
    rig.engine.hold()
    images = [await rig.submit(1)]
    await rig.engine.entered()
    leaver = await rig.submit(2, 3)
    images.append(await rig.submit(4, 5))
    assert await fails(await rig.submit(6, 7), QueueFullError)
    leaver.cancel()
    await fails(leaver, asyncio.CancelledError)

    images.append(await rig.submit(6, 7))

    rig.engine.let_go()
    assert list(await asyncio.gather(*images)) == [[1], [4, 5], [6, 7]]


async def test_cancelling_in_a_running_batch_hurts_no_one_else(rig: Rig) -> None:
    # ray-project/ray issue 41057: a cancelled future broke the loop that set the results.
    rig.engine.hold()
    opener = await rig.submit(1)
    images = [await rig.submit(mark) for mark in (2, 3, 4)]
    await rig.engine.entered()
    rig.engine.release()
    assert await rig.engine.entered() == [2, 3, 4]
    for leaver in images[:2]:
        leaver.cancel()
        await fails(leaver, asyncio.CancelledError)

    rig.engine.let_go()

    assert list(await asyncio.gather(opener, images[2])) == [[1], [4]]
    assert await (await rig.submit(5)) == [5]
    assert rig.scheduler.alive


async def test_cancelling_in_a_batch_that_then_fails_hurts_no_one_else(rig: Rig) -> None:
    rig.engine.hold()
    rig.engine.poison = {2}
    opener = await rig.submit(1)
    leaver, poisoned, innocent = [await rig.submit(mark) for mark in (3, 2, 4)]
    await rig.engine.entered()
    rig.engine.release()
    assert await rig.engine.entered() == [3, 2, 4]
    leaver.cancel()
    await fails(leaver, asyncio.CancelledError)
    rig.engine.let_go()

    assert list(await asyncio.gather(opener, innocent)) == [[1], [4]]
    assert await fails(poisoned, ItemFailedError)
    assert rig.scheduler.alive


async def test_every_image_of_a_running_batch_can_be_cancelled(rig: Rig) -> None:
    rig.engine.hold()
    images = [await rig.submit(1)]
    await rig.engine.entered()
    images[0].cancel()
    await fails(images[0], asyncio.CancelledError)
    rig.engine.let_go()

    assert await (await rig.submit(2)) == [2]


# -- items that fail


@pytest.mark.parametrize("poisoned", [2, 3, 4, 5])
async def test_a_poisoned_item_fails_alone(rig: Rig, poisoned: int) -> None:
    rig.engine.hold()
    rig.engine.poison = {poisoned}
    images = {mark: await rig.submit(mark) for mark in range(1, 6)}
    rig.engine.let_go()

    for mark, image in images.items():
        if mark == poisoned:
            assert await fails(image, ItemFailedError)
        else:
            assert await image == [mark]
    assert rig.scheduler.alive
    assert not rig.health.suspect


async def test_a_batch_that_fails_is_tried_again_in_halves(rig: Rig) -> None:
    rig.engine.hold()
    rig.engine.poison = {5}
    images = [await rig.submit(mark) for mark in (1, 2, 3, 4, 5)]
    rig.engine.let_go()
    await asyncio.wait(images)

    # After the second failure in succession a blank batch clears the engine.
    assert rig.engine.batches == [[1], [2, 3, 4, 5], [2, 3], [4, 5], [4], [5]]


async def test_a_failure_takes_the_rest_of_its_image_out_of_the_queue(rig: Rig) -> None:
    rig.engine.hold()
    rig.engine.poison = {2}
    image = await rig.submit(1, 2, 3, 4, 5, 6)
    other = await rig.submit(7)
    rig.engine.let_go()

    assert await fails(image, ItemFailedError)
    assert await other == [7]
    assert not {5, 6} & {mark for batch in rig.engine.batches[2:] for mark in batch}
    assert rig.scheduler.depth == 0


async def test_any_number_of_poisoned_items_does_not_mark_an_engine_unhealthy_that_answers(rig: Rig) -> None:
    rig.engine.poison = set(range(1, 9))
    for mark in range(1, 9):
        assert await fails(await rig.submit(mark), ItemFailedError)
        assert rig.scheduler.alive

    assert rig.engine.batches[:4] == [[1], [2], BLANK, [3]], "two failures in succession call for a blank batch"
    assert await (await rig.submit(9)) == [9]


@pytest.mark.parametrize("error", [ValueError("bad"), StopIteration(), TimeoutError()])
async def test_whatever_the_engine_raises_is_a_failure_and_not_the_end(rig: Rig, error: Exception) -> None:
    rig.engine.error = error
    image = await rig.submit(1)
    assert await fails(image, ItemFailedError)

    rig.engine.error = None
    assert await (await rig.submit(2)) == [2]


async def test_a_batch_with_too_few_answers_does_not_end_the_scheduler_unnoticed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = rig.engine.infer
    monkeypatch.setattr(rig.engine, "infer", lambda images: infer(images)[:-1])

    assert await fails(await rig.submit(1), EngineUnavailableError)
    assert not rig.scheduler.alive


# -- an engine that fails


async def test_an_engine_that_fails_on_a_blank_batch_is_marked_unhealthy(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await make_rig(rebuild=False)
    rig.engine.hold()
    images = [await rig.submit(1, 2, 3, 4), await rig.submit(5, 6, 7, 8), await rig.submit(9)]
    rig.engine.dead = True
    rig.engine.let_go()

    for image in images:
        assert await fails(image, EngineUnavailableError)
    assert rig.engine.batches == [[1, 2, 3, 4], [1, 2], BLANK], "no one else was tried on an engine that is broken"
    assert len(rig.observer.waits) == 4, "what waited was not refused at once, but went on towards the engine"
    assert rig.health.broken
    assert not rig.scheduler.alive
    assert rig.scheduler.depth == 0
    critical = [record.message for record in caplog.records if record.levelno == logging.CRITICAL]
    assert critical[0].startswith("the network fails on every batch; not ready")


async def test_an_unhealthy_engine_takes_nothing(make_rig: MakeRig) -> None:
    rig = await make_rig(rebuild=False)
    rig.engine.dead = True
    await fails(await rig.submit(1, 2), EngineUnavailableError)
    rig.engine.forget()

    assert await fails(await rig.submit(3), EngineUnavailableError)
    assert rig.scheduler.depth == 0
    assert rig.engine.batches == []
    assert len(rig.observer.waits) == 2, "it was taken in, and refused only on its way to the engine"


async def test_what_is_handed_in_while_the_engine_is_on_trial_shares_its_verdict(make_rig: MakeRig) -> None:
    rig = await make_rig(rebuild=False)
    rig.engine.dead = True
    rig.engine.hold()
    accused = await rig.submit(1, 2)
    for batch in ([1, 2], [1], BLANK):
        assert await rig.engine.entered() == batch
        if batch != BLANK:
            rig.engine.release()
    bystander = await rig.submit(3)
    assert rig.scheduler.depth == 1
    rig.engine.let_go()

    assert await fails(accused, EngineUnavailableError)
    assert await fails(bystander, EngineUnavailableError)
    assert [3] not in rig.engine.batches


async def test_an_idle_engine_that_fails_is_detected_before_the_next_request(make_rig: MakeRig) -> None:
    rig = await make_rig(rebuild=False)
    rig.engine.dead = True
    assert rig.scheduler.alive

    await rig.clock.advance(5.0)
    assert await rig.engine.entered() == BLANK
    await settled(lambda: not rig.scheduler.alive)

    assert rig.health.broken


# -- the heartbeat


async def test_a_quiet_engine_is_asked_for_a_blank_batch(rig: Rig) -> None:
    for _ in range(12):  # a minute, twice the timeout
        await rig.clock.advance(5.0)
        assert await rig.engine.entered() == BLANK
        await settled(lambda: rig.scheduler.idle)
        assert rig.scheduler.alive

    assert (rig.observer.batches, rig.observer.waits) == ([], []), "blank batches are no one's work"


async def test_a_batch_is_a_heartbeat_too(rig: Rig) -> None:
    await rig.clock.advance(4.0)
    await (await rig.submit(1))
    await rig.clock.advance(4.0)

    assert rig.engine.batches == [[1]], "an engine that just worked need not be asked"
    await rig.clock.advance(1.0)
    assert await rig.engine.entered() == [1]
    assert await rig.engine.entered() == BLANK


async def test_an_engine_that_hangs_is_not_alive_after_the_timeout(rig: Rig) -> None:
    rig.engine.hold()
    image = await rig.submit(1)
    await rig.engine.entered()
    await rig.clock.advance(30.0)
    lives = [rig.scheduler.alive]
    await rig.clock.advance(0.1)
    lives.append(rig.scheduler.alive)
    assert rig.engine.batches == [[1]], "an engine that hangs is not asked for more"

    rig.engine.let_go()

    assert await image == [1]
    assert [*lives, rig.scheduler.alive] == [True, False, True], "it answered after all"


async def test_what_waits_for_an_engine_that_hangs_stays_bounded(make_rig: MakeRig) -> None:
    rig = await make_rig(max_batch_size=2, capacity=3)
    rig.engine.hold()
    images = [await rig.submit(mark) for mark in range(1, 21)]

    assert rig.scheduler.depth == 2 + 3
    assert [image.done() for image in images] == [False] * 6 + [True] * 14
    assert all([await fails(image, QueueFullError) for image in images[6:]])


# -- what the observer is told


async def test_the_observer_is_notified_of_waits_batches_and_failures(rig: Rig) -> None:
    rig.engine.hold()
    rig.engine.poison = {3}
    rig.engine.seconds = lambda size: 0.5
    first = await rig.submit(1)
    await rig.engine.entered()
    second = await rig.submit(2)
    await rig.clock.advance(0.25)
    poisoned = await rig.submit(3)
    leaver = await rig.submit(4)
    leaver.cancel()
    await fails(leaver, asyncio.CancelledError)
    rig.engine.let_go()
    await asyncio.wait([first, second, poisoned])

    assert rig.observer.waits == [0.0, 0.75, 0.5]
    assert rig.observer.batches == [(1, 0.75), (1, 0.5)]
    assert rig.observer.failures == 2, "the pair, then the poisoned one"
