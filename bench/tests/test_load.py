"""The load generator tells the truth about slow servers, refusals and its own timetable."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from bench.load import PAUSE, Samples, arrivals, closed_loop, open_loop
from testing.http_client import Pool, post_form

REQUEST = post_form("/predict", "image", b"jpeg")


class Server:
    """Answers every request with the next of some statuses; may stand still for a while, or hang up."""

    def __init__(self) -> None:
        self.statuses: Callable[[int], int] = lambda _: 200
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answers_each = 1_000_000
        self.seen: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in range(self.answers_each):
                self.seen.append(await reader.readexactly(len(REQUEST)))
                status = self.statuses(len(self.seen))
                await self.may_answer.wait()
                if not status:
                    break
                writer.write(b"HTTP/1.1 %d Any\r\nContent-Length: 2\r\n\r\n{}" % status)
        except asyncio.IncompleteReadError:
            pass  # the client closed
        finally:
            writer.close()


@asynccontextmanager
async def pool(server: Server, limit: int = 100) -> AsyncIterator[Pool]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        yield Pool("127.0.0.1", listening.sockets[0].getsockname()[1], limit)


def run_open(server_of: Callable[[], Server], timetable: list[float], *, limit: int = 100, stall: float = 0) -> Samples:
    async def run() -> Samples:
        server = server_of()
        if stall:
            server.may_answer.clear()
            asyncio.get_running_loop().call_later(stall, server.may_answer.set)
        async with pool(server, limit) as connections:
            return await open_loop(
                connections, [REQUEST], timetable, seconds=0.4, answer_timeout=5, clock=time.perf_counter
            )

    return asyncio.run(run())


@pytest.mark.parametrize("connections", [100, 1])
def test_a_stalled_server_makes_latencies_grow_from_the_intended_time(connections: int) -> None:
    timetable = [0.02 * n for n in range(20)]
    samples = run_open(Server, timetable, limit=connections, stall=0.5)

    assert samples.status == [200] * 20
    assert samples.intended == timetable
    # A request that was due at t waits until the stall ends at 0.5, whether or not a connection was free to send it.
    for intended, answered in zip(samples.intended, samples.answered, strict=True):
        assert answered - intended >= 0.49 - intended
    sent_late = [sent - intended > 0.05 for sent, intended in zip(samples.sent, samples.intended, strict=True)]
    assert any(sent_late) == (connections == 1)


def test_every_status_is_counted_and_none_is_lost() -> None:
    def server() -> Server:
        made = Server()
        made.statuses = lambda number: 429 if number % 2 else 200
        return made

    samples = run_open(server, [0.01 * n for n in range(30)])

    assert sorted(samples.status) == [200] * 15 + [429] * 15


def test_a_request_that_meets_a_closing_connection_is_sent_once_more_and_a_hang_up_is_lost() -> None:
    def closing() -> Server:
        made = Server()
        made.answers_each = 1
        return made

    def hanging_up() -> Server:
        made = Server()
        made.statuses = lambda _: 0
        return made

    timetable = [0.03 * n for n in range(10)]
    assert run_open(closing, timetable, limit=1).status == [200] * 10
    assert run_open(hanging_up, timetable, limit=1).status == [0] * 10


def test_no_server_is_an_answer_too() -> None:
    async def run() -> Samples:
        async with pool(Server()) as connections:
            pass
        return await open_loop(connections, [REQUEST], [0.0], seconds=0.01, answer_timeout=1, clock=time.perf_counter)

    assert asyncio.run(run()).status == [0]


def test_what_is_not_answered_in_time_is_given_up() -> None:
    async def run() -> Samples:
        server = Server()
        server.may_answer.clear()
        async with pool(server, limit=2) as connections:
            samples = await open_loop(
                connections, [REQUEST], [0.0] * 5, seconds=0.01, answer_timeout=0.1, clock=time.perf_counter
            )
        server.may_answer.set()
        return samples

    samples = asyncio.run(run())
    assert samples.status == [0] * 5
    assert min(samples.answered) >= 0.1


def test_a_closed_loop_has_as_many_requests_on_their_way_as_clients() -> None:
    async def run() -> tuple[Samples, int]:
        server = Server()
        server.may_answer.clear()
        async with pool(server) as connections:
            asyncio.get_running_loop().call_later(0.1, server.may_answer.set)
            waiting = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.08, lambda: waiting.set_result(len(server.seen)))
            samples = await closed_loop(
                connections, [REQUEST], 3, seconds=0.3, answer_timeout=5, clock=time.perf_counter
            )
        return samples, await waiting

    samples, waiting = asyncio.run(run())
    assert waiting == 3
    assert len(samples.status) > 10
    assert set(samples.status) == {200}


def test_clients_whose_server_is_gone_try_again_only_now_and_then() -> None:
    async def run() -> Samples:
        async with pool(Server()) as connections:
            pass
        return await closed_loop(connections, [REQUEST], 3, seconds=0.3, answer_timeout=1, clock=time.perf_counter)

    samples = asyncio.run(run())
    assert set(samples.status) == {0}
    assert 3 < len(samples.status) <= 3 * (0.3 / PAUSE + 1)


def test_arrivals_are_a_poisson_process_and_the_seed_repeats_them() -> None:
    times = np.array(arrivals(200, 50, np.random.default_rng(7)))
    gaps = np.diff(times)

    assert len(times) == pytest.approx(10_000, rel=0.04)  # four standard deviations
    assert times.max() < 50
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # exponential gaps
    assert times.tolist() == arrivals(200, 50, np.random.default_rng(7))
    assert times.tolist() != arrivals(200, 50, np.random.default_rng(8))
