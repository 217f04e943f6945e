"""The machine's clock."""

import asyncio
import time

import pytest

from service.clock import SystemClock

pytestmark = pytest.mark.anyio

SOON = 0.01
LONG = 60.0


def test_it_returns_monotonic_seconds() -> None:
    before = time.monotonic()
    now = SystemClock().now()

    assert before <= now <= time.monotonic()


async def test_waiting_ends_when_the_event_is_set() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    before = time.monotonic()

    await SystemClock().wait(event, LONG)

    assert time.monotonic() - before < LONG / 2


async def test_an_event_that_is_set_already_is_not_waited_for() -> None:
    event = asyncio.Event()
    event.set()

    async with asyncio.timeout(1.0):
        await SystemClock().wait(event, LONG)


async def test_waiting_ends_when_the_seconds_have_passed() -> None:
    event = asyncio.Event()
    clock = SystemClock()
    before = clock.now()

    async with asyncio.timeout(LONG):
        await clock.wait(event, SOON)

    # The loop may wake a timer early by as much as its clock's resolution.
    assert clock.now() - before >= SOON - time.get_clock_info("monotonic").resolution
    assert not event.is_set()


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_no_time_at_all_is_no_wait_and_no_error(seconds: float) -> None:
    async with asyncio.timeout(1.0):
        await SystemClock().wait(asyncio.Event(), seconds)


async def test_cancelling_a_waiter_is_not_taken_for_the_end_of_the_wait() -> None:
    waiting = asyncio.create_task(SystemClock().wait(asyncio.Event(), LONG))
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_caller_s_own_time_limit_still_reaches_the_caller() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await SystemClock().wait(asyncio.Event(), LONG)
