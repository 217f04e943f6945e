"""Rounds: calls on the event loop, which goes round between them."""

import asyncio
from collections.abc import Callable

import pytest

from service.concurrency import LoopRounds
from tests.service.batching.conftest import FakeClock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]


async def _made(seconds: float, count: int) -> list[object]:
    """Return what happened in the loop when so many calls of a second each were queued at once."""
    clock, happened = FakeClock(), list[object]()
    rounds = LoopRounds(seconds, clock)

    def call(number: int) -> Callable[[], int]:
        def made() -> int:
            clock.time += 1
            happened.append(number)
            return number

        return made

    outcomes = [rounds.run(call(number)) for number in range(count)]
    while not outcomes[-1].done():
        await asyncio.sleep(0)
        happened.append("round")
    assert await asyncio.gather(*outcomes) == list(range(count))
    return happened


async def test_the_loop_goes_round_whenever_the_time_is_up() -> None:
    assert await _made(2.0, 5) == [0, 1, "round", 2, 3, "round", 4, "round"]


async def test_a_round_without_time_makes_one_call_nevertheless() -> None:
    assert await _made(0.0, 3) == [0, "round", 1, "round", 2, "round"]


async def test_what_comes_later_is_done_too() -> None:
    rounds = LoopRounds(1.0, FakeClock())

    assert await rounds.run(lambda: 1) == 1
    assert await rounds.run(lambda: 2) == 2


async def test_what_a_call_raises_reaches_its_caller_and_no_other() -> None:
    rounds = LoopRounds(1.0, FakeClock())
    broken = rounds.run(lambda: int("seven"))
    stopped = rounds.run(lambda: next(iter(())))
    good = rounds.run(lambda: 7)

    with pytest.raises(ValueError, match="seven"):
        await broken
    with pytest.raises(RuntimeError, match="StopIteration"):
        await stopped
    assert await good == 7


async def test_a_call_that_is_cancelled_before_its_turn_is_never_made() -> None:
    rounds, made = LoopRounds(1.0, FakeClock()), list[str]()
    waiting = rounds.run(lambda: made.append("waiting"))
    last = rounds.run(lambda: made.append("last"))
    waiting.cancel()
    await last

    assert made == ["last"]
