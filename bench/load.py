"""Load: requests sent to a server by a timetable (open loop) or as fast as it answers (closed loop); every sample kept.

    python -m bench.load --port PORT --requests FILE... --open RATE --seconds 10 --seed 1
    python -m bench.load --port PORT --requests FILE... --closed CLIENTS --seconds 10

A program of its own, so that its CPU time can be told from the server's. Each FILE holds the bytes of one request; they
take turns. The answer is JSON on standard output: see ``Samples``.

In the open loop requests arrive as a Poisson process does, whether or not the server keeps up, and a latency is
counted from the moment at which its request was meant to be sent. Were it counted from the real sending, a generator
that waits for a stalled server would leave out just those requests that a user would have waited for (Tene,
"coordinated omission").
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
import uvloop

from testing.http_client import LOST, Exchange, Pool

MOST_CONNECTIONS = 1024

PAUSE = 0.05
"""Seconds after which a client whose request was lost sends the next one; at once, it would do nothing else if the
server were gone."""

Clock = Callable[[], float]


@dataclass(slots=True)
class Samples:
    """Every request of a run, in the order of intended sending; times in seconds from the run's start.

    Attributes:
        intended: when each was meant to be sent.
        sent: when it was handed to a connection.
        answered: when its answer was complete, or it was given up.
        status: of the answer; 0 where none came.
        seconds: length of the timetable; answers may come later.
        cpu_seconds: of the generator's process, from first to last.
    """

    intended: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class _Run:
    """Samples in the making."""

    def __init__(self, pool: Pool, requests: Sequence[bytes], clock: Clock) -> None:
        self._samples = Samples()
        self._pool = pool
        self._requests = cycle(requests)
        self._clock = clock
        self._unanswered = 0
        self._all_answered = asyncio.Event()
        self._cpu = time.process_time()
        self._began = clock()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    def request(self, intended: float, then: Callable[[int], None] = lambda _: None) -> None:
        """Send the next request, and do ``then`` with the status when it is answered."""
        samples, place = self._samples, len(self._samples.intended)
        samples.intended.append(intended)
        samples.sent.append(intended)
        samples.answered.append(intended)
        samples.status.append(LOST)
        self._unanswered += 1

        def sending() -> None:
            samples.sent[place] = self.now

        def answered(status: int) -> None:
            samples.answered[place], samples.status[place] = self.now, status
            self._unanswered -= 1
            then(status)
            if not self._unanswered:
                self._all_answered.set()

        self._pool.submit(Exchange(next(self._requests), sending, answered))

    async def finish(self, seconds: float, answer_timeout: float) -> Samples:
        """Wait for the answers that are still out, for at most ``answer_timeout`` seconds, and return all samples."""
        if self._unanswered:
            self._all_answered.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_answered.wait(), answer_timeout)
        self._pool.close()
        while self._unanswered:  # each connection tells of its end
            await asyncio.sleep(0)
        self._samples.seconds = seconds
        self._samples.cpu_seconds = time.process_time() - self._cpu
        return self._samples


def arrivals(rate: float, seconds: float, rng: np.random.Generator) -> list[float]:
    """Return when the requests of a Poisson process arrive, in seconds below ``seconds``.

    Args:
        rate: requests a second, above 0.
        seconds: length of the timetable.
        rng: draws the gaps.
    """
    expected = rate * seconds
    gaps = rng.exponential(1 / rate, size=int(expected + 10 * expected**0.5 + 10))
    times = np.cumsum(gaps)
    return [float(time) for time in times[times < seconds]]


async def open_loop(
    pool: Pool,
    requests: Sequence[bytes],
    timetable: Sequence[float],
    *,
    seconds: float,
    answer_timeout: float,
    clock: Clock,
) -> Samples:
    """Return what became of requests that were sent by a timetable, however the server did.

    Args:
        pool: connections to the server.
        requests: take turns.
        timetable: seconds from now at which to send, ascending.
        seconds: length of the timetable.
        answer_timeout: seconds after its end in which answers are still waited for.
        clock: the time.
    """
    run = _Run(pool, requests, clock)
    for intended in timetable:
        if (early := intended - run.now) > 0:
            await asyncio.sleep(early)
        run.request(intended)
    if (left := seconds - run.now) > 0:
        await asyncio.sleep(left)
    return await run.finish(seconds, answer_timeout)


async def closed_loop(
    pool: Pool, requests: Sequence[bytes], clients: int, *, seconds: float, answer_timeout: float, clock: Clock
) -> Samples:
    """Return what ``clients`` saw that each sent their next request when the last one was answered.

    Args:
        pool: connections to the server, at least one for each client.
        requests: take turns.
        clients: at least 1.
        seconds: in which requests are sent.
        answer_timeout: seconds after that in which answers are still waited for.
        clock: the time.
    """
    run = _Run(pool, requests, clock)
    loop = asyncio.get_running_loop()

    def send_next() -> None:
        if (now := run.now) < seconds:
            run.request(now, then=go_on)

    def go_on(status: int) -> None:
        loop.call_later(PAUSE if status == LOST else 0, send_next)

    for _ in range(clients):
        send_next()
    await asyncio.sleep(seconds)
    return await run.finish(seconds, answer_timeout)


async def _load(asked: argparse.Namespace) -> Samples:
    requests = [path.read_bytes() for path in asked.requests]
    how = {"seconds": asked.seconds, "answer_timeout": asked.answer_timeout, "clock": time.perf_counter}
    if asked.open is not None:
        pool = Pool(asked.host, asked.port, MOST_CONNECTIONS)
        return await open_loop(
            pool, requests, arrivals(asked.open, asked.seconds, np.random.default_rng(asked.seed)), **how
        )
    return await closed_loop(Pool(asked.host, asked.port, asked.closed), requests, asked.closed, **how)


def main() -> None:
    """Send the load and print the samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=Path, nargs="+", required=True, help="files of whole requests")
    loop = parser.add_mutually_exclusive_group(required=True)
    loop.add_argument("--open", type=float, metavar="RATE", help="requests a second, as a Poisson process")
    loop.add_argument("--closed", type=int, metavar="CLIENTS")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--answer-timeout", type=float, default=10, help="seconds to wait for the last answers")
    json.dump(asdict(uvloop.run(_load(parser.parse_args()))), sys.stdout)


if __name__ == "__main__":
    main()
