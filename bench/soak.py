"""Soak: mixed load, good and bad, against a real process; every request must be accounted for.

    python -m bench.soak --minutes 20 --out bench/results/soak.json

Starts ``python -m service`` with the shipped weights and small bounds, and for so many minutes sends crops, photos,
broken and wrong uploads, oversized ones, batches, explanations, bursts over capacity, and clients that hang up at any
stage. Then it sends as many images at once as the bound allows, asks ``/metrics``, and holds five promises, any of
which broken ends it with status 1:

- no answer is a 500, and the log has no error;
- sent = answered + refused + hung up, by what the clients saw and by what the service counted;
- resident memory in the last minutes is at most 3 % above that after the warm-up;
- at the end there is a place for every image of the bound, and all are answered;
- the process ends on SIGTERM with status 0.

With ``--front-ends N`` the service is several processes, and with ``--kill-every SECONDS`` one of them, taken at
random, is killed again and again; ``bench.soak_kills`` says what is promised then.

Minutes and limits count only while this process runs: on a machine that suspends it and the service for a while,
as for a measurement that wants quiet, nothing is taken for lost. The result says how long it stood still, and how much
of the processors others took meanwhile. SIGTERM ends the soak and its service.

The portrait is the astronaut that scikit-image ships (NASA, public domain); the other photo is drawn.
"""

import argparse
import asyncio
import json
import os
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import psutil

from bench.soak_kills import Kills
from bench.soak_load import Ledger, Upload, WakingClock, connection, fill, read_answer, send_mixed_load
from training.provenance import commit, machine

BOUNDS = {"MANET_PORT": "0", "MANET_MAX_INFLIGHT_IMAGES": "32", "MANET_MAX_UPLOAD_BYTES": "2000000"}
"""So that bursts and oversized uploads stay small."""

ROOT = Path(__file__).parents[1]
MOST_GROWTH = 0.03
SLOTS = int(BOUNDS["MANET_MAX_INFLIGHT_IMAGES"])


class Service:
    """A running service: its port, its memory over time, its log."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        self.process, self.log = process, process.stderr
        self.lines: list[str] = []
        self.port = self._port()
        self.errors: list[str] = []
        threading.Thread(target=self._read_log, daemon=True).start()

    def _port(self) -> int:
        for line in self.log:
            self.lines.append(line)
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                return int(found[1])
        raise SystemExit("the service did not start")

    def _read_log(self) -> None:
        for line in self.log:
            if re.search(r": process \d+$", line):
                self.lines.append(line)
            if re.match(r"ERROR|CRITICAL|Traceback", line):
                self.errors.append(line)

    def resident_mb(self) -> float:
        """Return the resident memory of all its processes."""
        main = psutil.Process(self.process.pid)
        total = 0
        for process in [main, *main.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 2**20

    async def counted(self) -> Counter[str]:
        """Return, once nothing is in flight, the requests that the service counted, by status."""
        while True:
            async with connection(self.port) as (reader, writer):
                writer.write(Upload("/metrics").head)
                _, text = await read_answer(reader)
            if not re.search(r"^manet_(images_in_flight|uploads_arriving) (?!0\.0$)", text, re.MULTILINE):
                break
            await asyncio.sleep(0.5)
        counted: Counter[str] = Counter()
        for labels, value in re.findall(r"^manet_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE):
            if 'route="/metrics"' not in labels:
                counted[re.search(r'status="(\d+)"', labels)[1]] += int(float(value))  # type: ignore[index]
        return counted

    def stop(self) -> int:
        """End it in order and return its status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=300)


@contextmanager
def started(front_ends: int) -> Iterator[Service]:
    """Hold a service; whatever happens, its process ends with it."""
    command = [sys.executable, "-m", "service"]
    environment = {**os.environ, **BOUNDS, "MANET_FRONT_ENDS": str(front_ends)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Service(process)
        finally:
            process.kill()


async def sampled(
    service: Service, work: Awaitable[None], clock: WakingClock, every: float
) -> list[tuple[float, float]]:
    """Return (seconds, megabytes) of the process while some work is done."""
    series = []
    task = asyncio.ensure_future(work)
    while not task.done():
        series.append((clock.seconds, service.resident_mb()))
        await asyncio.wait({task}, timeout=every)
    await task
    return series


def memory(series: list[tuple[float, float]]) -> dict[str, Any]:
    """Return how memory went: the median of a tenth of the time, after the warm-up and at the end."""
    seconds = series[-1][0]

    def median(low: float, high: float) -> float:
        return statistics.median(megabytes for at, megabytes in series if low * seconds <= at <= high * seconds)

    after_warm_up, end = median(0.2, 0.3), median(0.9, 1.0)
    step = max(1, len(series) // 40)
    return {
        "after_warm_up_mb": round(after_warm_up, 1),
        "end_mb": round(end, 1),
        "growth_percent": round(100 * (end / after_warm_up - 1), 2),
        "series_s_mb": [[round(at), round(megabytes, 1)] for at, megabytes in series[::step]],
    }


def promises(ledger: Ledger, counted: Counter[str], grown: float, status: int, errors: list[str]) -> dict[str, bool]:
    """Return which promises hold."""
    sent, seen = sum(ledger.sent.values()), sum(ledger.seen.values())
    unseen = counted - ledger.seen
    return {
        "no 500": not counted["500"] and not ledger.seen["500"],
        "no error in the log": not errors,
        "nothing lost": ledger.lost == 0,
        "every request counted": counted.total() == sent,
        "every answer counted": not ledger.seen - counted,
        "sent = answered + refused + hung up": sent == seen + ledger.hung_up + ledger.cut,
        "only who left or was cut off saw no answer": unseen.total() == ledger.hung_up + ledger.cut,
        "memory flat": grown <= 100 * MOST_GROWTH,
        "ends with status 0": status == 0,
    }


def _busy() -> float:
    """Return the seconds that the machine's processors have worked, for whomever (proc_stat(5))."""
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts = map(
        int, Path("/proc/stat").read_text().split()[1:8]
    )
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def _service_seconds() -> float:
    """Return what the service took of them; known when it has ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


async def observed(
    service: Service, seconds: float, ledger: Ledger, clock: WakingClock, *, seed: int, kills: Kills | None
) -> tuple[list[tuple[float, float]], Counter[str], bool]:
    """Soak a service; return its memory over time, what it counted, and whether it had all its places at the end."""
    ticking = asyncio.create_task(clock.run())
    killing = None
    if kills is not None:
        killing = asyncio.create_task(kills.run(seconds, service.lines, clock, random.Random(seed + 1)))
    try:
        work = send_mixed_load(service.port, seconds, ledger, clock, random.Random(seed))
        series = await sampled(service, work, clock, every=2.0)
        if killing is not None:
            await killing
        await service.counted()  # nothing is in flight
        filled = await fill(service.port, SLOTS, ledger, clock)
        return series, await service.counted(), filled
    finally:
        ticking.cancel()


def _leave(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    """Soak, hold the promises, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--front-ends", type=int, default=1)
    parser.add_argument("--kill-every", type=float, help="seconds between two kills of a random process, on average")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if asked.kill_every is not None and asked.front_ends == 1:
        parser.error("--kill-every needs --front-ends")
    kills = None if asked.kill_every is None else Kills(asked.kill_every)
    ledger, clock = Ledger(), WakingClock()
    signal.signal(signal.SIGTERM, _leave)
    busy, own = _busy(), time.process_time()
    with started(asked.front_ends) as service:
        series, counted, filled = asyncio.run(
            observed(service, 60 * asked.minutes, ledger, clock, seed=asked.seed, kills=kills)
        )
        status = service.stop()
    cpu = {"service": _service_seconds(), "generator": time.process_time() - own}
    cpu["others"] = _busy() - busy - sum(cpu.values())
    went = memory(series)
    if kills is None:
        held = promises(ledger, counted, went["growth_percent"], status, service.errors)
    else:
        held = kills.promises(ledger, counted, service.errors, went["growth_percent"])
        held["ends with status 0"] = status == 0
    held["a place for every image at the end"] = filled
    result = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "minutes": asked.minutes,
        "front_ends": asked.front_ends,
        **({} if kills is None else {"killed": dict(kills.killed), "held_by_killed_front_ends": kills.held}),
        "stood_still_seconds": round(clock.still),
        "cpu_seconds": {name: round(seconds) for name, seconds in cpu.items()},
        "machine_shared": clock.still > 0 or cpu["others"] > cpu["generator"],
        "settings": BOUNDS,
        "promises": held,
        "sent": dict(sorted(ledger.sent.items())),
        "sent_total": ledger.sent.total(),
        "seen_by_clients": dict(sorted(ledger.seen.items())),
        "counted_by_the_service": dict(sorted(counted.items())),
        "hung_up": ledger.hung_up,
        "cut_off": ledger.cut,
        "lost": ledger.lost,
        "left_before_the_head_was_whole": ledger.unborn,
        "log_errors": service.errors[:20],
        "memory": went,
    }
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "memory"}, indent=1))
    print({key: value for key, value in went.items() if key != "series_s_mb"})
    if not all(held.values()):
        raise SystemExit(f"broken: {', '.join(name for name, holds in held.items() if not holds)}")


if __name__ == "__main__":
    main()
