"""Workers: threads that outlive whatever is raised in them, and tell it to the caller."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from service.concurrency import Workers

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]

TIMEOUT = 10.0


@pytest.fixture
def thread() -> Iterator[Workers]:
    thread = Workers(1, "test")
    yield thread
    thread.close()


def _raiser(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


async def _outcome(thread: Workers, call: Callable[[], object]) -> object:
    async with asyncio.timeout(TIMEOUT):
        return await thread.run(call)


async def test_calls_run_in_order_and_in_one_thread_which_is_not_the_caller_s(thread: Workers) -> None:
    order: list[int] = []

    def note(number: int) -> int:
        order.append(number)
        return threading.get_ident()

    calls = [thread.run(partial(note, number)) for number in range(20)]

    async with asyncio.timeout(TIMEOUT):
        threads = set(await asyncio.gather(*calls))

    assert order == list(range(20))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_the_thread_cannot_hold_up_the_end_of_the_process(thread: Workers) -> None:
    assert await _outcome(thread, lambda: threading.current_thread().daemon)


class _Panic(BaseException):
    """What a native library raises when it panics: no Exception."""


@pytest.mark.parametrize("error", [ValueError("bad"), MemoryError(), _Panic()])
async def test_what_a_call_raises_reaches_its_caller_and_the_thread_goes_on(
    thread: Workers, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        await _outcome(thread, _raiser(error))

    assert await _outcome(thread, lambda: 7) == 7


async def test_a_stray_stop_iteration_is_an_answer_too(thread: Workers) -> None:
    # A future takes no StopIteration (python/cpython issue 112182); without care its waiter would hang for ever.
    with pytest.raises(RuntimeError) as caught:
        await _outcome(thread, lambda: next(iter(())))

    assert isinstance(caught.value.__cause__, StopIteration)
    assert await _outcome(thread, lambda: 7) == 7


async def test_a_call_that_is_cancelled_before_its_turn_is_never_made(thread: Workers) -> None:
    gate, entered = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def first() -> None:
        loop.call_soon_threadsafe(entered.set)
        assert gate.wait(TIMEOUT)

    running = thread.run(first)
    waiting = thread.run(lambda: made.append("waiting"))
    await entered.wait()
    waiting.cancel()
    await asyncio.sleep(0)
    gate.set()
    await running

    await _outcome(thread, lambda: made.append("last"))
    assert made == ["last"]


async def test_a_call_that_is_cancelled_while_it_runs_does_not_hurt_the_next(thread: Workers) -> None:
    gate, entered = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def call() -> None:
        loop.call_soon_threadsafe(entered.set)
        assert gate.wait(TIMEOUT)

    running = thread.run(call)
    await entered.wait()
    running.cancel()
    await asyncio.sleep(0)
    gate.set()

    assert await _outcome(thread, lambda: 7) == 7


async def test_stopping_lets_what_is_queued_finish_and_ends_the_thread() -> None:
    thread = Workers(1, "test")
    worker = thread.run(threading.current_thread)
    last = thread.run(lambda: 7)
    thread.close()

    async with asyncio.timeout(TIMEOUT):
        assert await last == 7
        ended = await worker
    ended.join(TIMEOUT)
    assert not ended.is_alive()


class _Batch:
    def work(self) -> None:
        """Stand for what holds on to a batch."""

    def fail(self) -> None:
        raise ValueError("bad")


@pytest.mark.parametrize("end", ["work", "fail", "cancelled"])
async def test_a_sleeping_thread_keeps_no_batch_alive(thread: Workers, end: str) -> None:
    batch = _Batch()
    gone = weakref.ref(batch)
    gate = threading.Event()
    blocking = thread.run(lambda: gate.wait(TIMEOUT))
    outcome = thread.run(getattr(batch, "work" if end == "cancelled" else end))
    del batch
    if end == "cancelled":
        outcome.cancel()
        await asyncio.sleep(0)
    gate.set()
    await blocking
    async with asyncio.timeout(TIMEOUT):
        await asyncio.wait([outcome])
        if end == "fail":
            assert isinstance(outcome.exception(), ValueError)
        del outcome
        while gone() is not None:  # the thread may still be on its way back to sleep
            gc.collect()
            await asyncio.sleep(0.001)
