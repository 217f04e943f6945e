"""Rows that an operator asks about: overload, start, memory."""

import statistics
import subprocess
import time
from typing import Any

import numpy as np

from bench import images, programs, sizes
from bench.server import finished, loading, spawned, started, wait_ready
from bench.summary import ratio, raw
from bench.workbench import CLIENTS, Bench

DEADLINE = 1.0
"""Seconds; ``MANET_DEADLINE`` of the overloaded service."""

REFUSAL_MS = 50.0
_STARTS = 7
_SAMPLE_SECONDS = 5.0
_SETTLING = 60.0
"""Seconds of load after which memory is expected to be flat."""


def overload(bench: Bench) -> dict[str, Any]:
    """Goodput at twice the capacity, with a deadline of one second."""
    uploads = images.crops()
    program = programs.ours(sizes.DEFAULT, deadline=str(DEADLINE))
    with started(program, bench.log("overload")) as server:
        before = bench.saturated(server, uploads)
        samples, found = bench.load(server, uploads, rate=2 * before["answered"])
        server.rest()
        _, after = bench.load(server, uploads, clients=CLIENTS)
    capacity = statistics.mean([before["answered"], after["answered"]])
    intended, answered, status = map(np.array, (samples.intended, samples.answered, samples.status))
    latency = answered - intended
    in_time = (status == 200) & (latency <= DEADLINE)
    goodput = float(in_time.sum()) / samples.seconds
    refused = latency[status == 429]
    others = {code: count for code, count in found["statuses"].items() if code not in {"200", "429"}}
    return {
        "deadline_seconds": DEADLINE,
        "capacity": round(capacity, 2),
        "goodput": round(goodput, 2),
        "goodput_over_capacity": ratio(goodput, capacity),
        "accepted_p99_ms": found["latency_ms"] and found["latency_ms"]["p99"],
        "refused_p99_ms": round(1e3 * float(np.percentile(refused, 99)), 2) if len(refused) else None,
        "refused_within_50_ms": round(float((1e3 * refused <= REFUSAL_MS).mean()), 4) if len(refused) else None,
        "neither_accepted_nor_refused": others,
        "saturated": {"before": before, "after": after},
        "overloaded": found,
        "samples": raw(samples),
    }


def start(bench: Bench) -> dict[str, Any]:
    """Seconds from starting the process to the first 200 of /health/ready, and the memory held then."""
    program = programs.ours(sizes.DEFAULT)
    log = bench.log("start")
    seconds, resident = [], []
    for _ in range(1 + _STARTS):
        began = time.perf_counter()
        with spawned(program, log) as server:
            wait_ready(server, log, pause=0.005)
            seconds.append(round(time.perf_counter() - began, 3))
            resident.append(round(server.resident_mb(), 1))
    first, *rest = seconds
    return {
        "median_seconds": statistics.median(rest),
        "resident_mb": statistics.median(resident),
        "first_seconds": first,
        "seconds_of_each": rest,
    }


def memory(bench: Bench) -> dict[str, Any]:
    """Resident memory under a saturating load of ten minutes."""
    uploads = images.crops()
    program = programs.ours(sizes.DEFAULT)
    with started(program, bench.log("memory")) as server:
        before, resident = server.cpu_seconds(), []
        with loading(server, uploads, bench.folder, seconds=bench.soak_seconds, clients=CLIENTS) as generator:
            began = time.monotonic()
            while time.monotonic() - began < bench.soak_seconds:
                try:
                    generator.wait(_SAMPLE_SECONDS)
                except subprocess.TimeoutExpired:
                    resident.append((round(time.monotonic() - began, 1), round(server.resident_mb(), 1)))
            samples = finished(generator)
        found = bench.spent(server, before, samples)
        torch = sorted(name for name in server.libraries() if name.startswith("libtorch"))
    settling = min(_SETTLING, bench.soak_seconds / 10)
    settled = [mb for seconds, mb in resident if seconds >= settling]
    tenth = max(1, len(settled) // 10)
    first, last = statistics.mean(settled[:tenth]), statistics.mean(settled[-tenth:])
    return {
        "soak_seconds": bench.soak_seconds,
        "largest_mb": max(mb for _, mb in resident),
        "growth_after_the_first_minute": round(last / first - 1, 4),
        "spread_after_the_first_minute": round(max(settled) / min(settled) - 1, 4),
        "torch_libraries_mapped": torch,
        "served": found,
        "resident_mb_by_second": resident,
        "samples": raw(samples),
    }
