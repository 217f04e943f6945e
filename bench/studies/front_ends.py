"""Front ends: what a request costs in one process, and in one or two front ends with an engine's process.

    python -m bench.studies.front_ends --out bench/results/front_ends.json

Crops of 224 x 224 px, a network that costs nothing, 64 clients in a closed loop; CPU time of each process, user and
system together. The ways run in turn within every round, and the medians of the rounds are told, so that a machine that
changes its pace changes it for all. What 16 cores would answer is computed, not measured: ``model`` says how.
"""

import argparse
import asyncio
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop

from bench import images
from bench.hosted import NullBackend
from bench.machine import heading, quietness
from bench.server import PORT, Program, Server, send_load, started
from manet.backends.base import Backend
from service.admission import Admission, AdmissionLimits, OwnUsage, Usage
from service.batching.policy import BatchPolicy
from service.clock import SystemClock
from service.inference.engine import load_detector, load_weights
from service.processes.channel import pair
from service.processes.children import Child
from service.processes.memory import Layout, SharedMemory
from service.processes.remote import RemoteScheduler
from service.processes.spec import ENGINE, Loaders, Spec
from service.processes.supervisor import be, supervise
from service.processes.usage import SharedUsage
from service.settings import Settings

CLIENTS, ROUNDS, IN_FLIGHT = 64, 5, 256
CORES = 16
_SERVE = "from bench.studies.front_ends import serve; serve({})"


def null_backend(settings: Settings) -> Backend:
    """Return a network that costs nothing."""
    return NullBackend(len(load_weights(settings).classes))


def serve(front_ends: int) -> None:
    """Serve with an engine's process, be it for a single front end."""
    settings = Settings(explain=False, front_ends=front_ends)
    supervise(settings, Loaders(weights=load_weights, backend=null_backend, detector=load_detector))


def programs(folder: Path) -> Mapping[str, Program]:
    """Return the ways that are compared."""
    environment = {"MANET_PORT": PORT, "MANET_EXPLAIN": "false"}
    shared = {"path": "/predict?faces=whole", "ready": "/health/ready", "environment": environment}
    single = ("-m", "bench.hosted", "--null", "--report", str(folder / "report.jsonl"))
    return {
        "single": Program(name="single", command=single, **shared),  # type: ignore[arg-type]
        **{
            f"front_ends_{count}": Program(name=f"front_ends_{count}", command=("-c", _SERVE.format(count)), **shared)  # type: ignore[arg-type]
            for count in (1, 2)
        },
    }


def cpu_by_kind(server: Server, log: Path) -> dict[str, float]:
    """Return the CPU seconds so far of each kind of process."""
    pids = {int(pid): name for name, pid in re.findall(r"(engine|front end) ?\d*: process (\d+)", log.read_text())}
    main = psutil.Process(server.process.pid)
    spent: dict[str, float] = {}
    for process in [main, *main.children(recursive=True)]:
        kind = pids.get(process.pid, "supervisor" if pids else "single")
        times = process.cpu_times()
        spent[kind] = spent.get(kind, 0.0) + times.user + times.system
    return spent


def measure(seconds: float) -> dict[str, dict[str, Any]]:
    """Return, for each way, the medians over the rounds."""
    rounds: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as place, ExitStack() as running:
        folder = Path(place)
        servers = {}
        for name, program in programs(folder).items():
            log = folder / f"{name}.log"
            servers[name] = running.enter_context(started(program, log)), log
            send_load(servers[name][0], images.crops(), folder, clients=CLIENTS, seconds=2)
        for _ in range(ROUNDS):
            for name, (server, log) in servers.items():
                before = cpu_by_kind(server, log)
                samples = send_load(server, images.crops(), folder, clients=CLIENTS, seconds=seconds)
                done = len(samples.status)
                assert set(samples.status) == {200}, "something was refused"
                after = cpu_by_kind(server, log)
                spent = {f"us_{kind.replace(' ', '_')}": 1e6 * (after[kind] - before[kind]) / done for kind in after}
                rates = {"us_all": sum(spent.values()), "requests_a_second": done / seconds}
                rounds.setdefault(name, []).append({**spent, **rates})
    return {
        name: {key: round(statistics.median(row[key] for row in rows), 1) for key in rows[0]}
        for name, rows in rounds.items()
    }


def bookkeeping(seconds: float) -> dict[str, Any]:
    """Return what a face costs the engine's process, and what it costs a front end to hand it in, without HTTP.

    256 faces are always in flight, so batches are full, as on a machine whose network has much to do.
    """
    settings = Settings(explain=False, front_ends=2)
    weights = load_weights(settings)
    side = weights.preprocessing.input_size
    memory = SharedMemory.create(Layout(1, IN_FLIGHT, side, len(weights.classes)))
    load = Loaders(weights=load_weights, backend=null_backend, detector=load_detector)
    spec = Spec(settings=settings, weights=weights, load=load, memory=memory, secret=b"")
    face = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)

    async def run() -> dict[str, Any]:
        child = Child("engine", be, ("engine", spec), ())
        assert await child.ready(60) is not None
        one, other = pair()
        child.tell(ENGINE + b"0", other)
        other.close()
        policy = BatchPolicy(settings.max_batch_size, settings.batch_timeout)
        remote = RemoteScheduler(memory, 0, policy=policy, clock=SystemClock())
        remote.connect(one)
        batches: list[int] = []

        async def client() -> None:
            while time.monotonic() < end:
                batches.append((await remote.submit([face], deadline=time.monotonic() + 30)).batch)

        process = psutil.Process(child.pid)
        end = time.monotonic() + seconds
        own, engine = time.process_time(), process.cpu_times()
        await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
        own, after = time.process_time() - own, process.cpu_times()
        spent = after.user + after.system - engine.user - engine.system
        await remote.stop()
        await child.kill()
        return {
            "engine_us_a_face": round(1e6 * spent / len(batches), 1),
            "front_end_us_a_face": round(1e6 * own / len(batches), 1),
            "faces_a_second": round(len(batches) / seconds),
            "mean_batch": round(statistics.mean(batches), 1),
        }

    return uvloop.run(run())


class _Quiet:
    """An engine that is idle, and an observer that does nothing."""

    alive, reason = True, ""

    def expected_wait(self, ahead: int = 0) -> float:
        return 0.0

    def shed(self, reason: str) -> None: ...


def admission_us(usage: Usage) -> float:
    """Return the microseconds that admission takes for a request: as often as a request asks it, all counts kept."""
    quiet, count = _Quiet(), 20_000
    bounds = AdmissionLimits(uploads=1024, images=128, bytes=1 << 29, deadline=10.0)
    admission = Admission(bounds, engine=quiet, clock=SystemClock(), observer=quiet, usage=usage)

    def request() -> None:
        admission.check()
        with admission.receive(10_000) as upload:
            upload.add(10_000)
            with admission.admit(upload):
                pass

    return _median_us(request, count)


def _median_us(call: Callable[[], None], count: int) -> float:
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(count):
            call()
        took.append(1e6 * (time.process_time() - began) / count)
    return round(statistics.median(took), 2)


def model(measured: Mapping[str, Mapping[str, Any]], engine_us: float, sizes: Sequence[int]) -> list[dict[str, float]]:
    """Return what a machine of 16 cores would answer with a network on a GPU that is never waited for.

    A front end is bound by its own core, and all of them together by the engine's process, whose bookkeeping has one
    core, and by the cores that are left to them.
    """
    costs = measured["front_ends_2"]
    one = 1e6 / (costs["us_front_end"] + costs["us_supervisor"])
    engine = 1e6 / engine_us
    return [
        {"front_ends": count, "crops_a_second": round(min(count * one, (CORES - 1) * one, engine))} for count in sizes
    ]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    quiet = quietness()
    measured = measure(asked.seconds)
    memory = SharedMemory.create(Layout(CORES - 1, 1, 8, 8))
    kept = bookkeeping(asked.seconds)
    found = {
        **heading(),
        "machine_before": quiet,
        "measured": measured,
        "cpu_over_single": {
            name: round(row["us_all"] / measured["single"]["us_all"], 3) for name, row in measured.items()
        },
        "two_over_one": round(measured["front_ends_2"]["us_all"] / measured["front_ends_1"]["us_all"], 3),
        "admission_us": {"single": admission_us(OwnUsage()), "of_15_front_ends": admission_us(SharedUsage(memory, 0))},
        "bookkeeping": kept,
        "model_16_cores": model(measured, kept["engine_us_a_face"], (1, 2, 4, 8, 15)),
    }
    asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "machine"}, indent=1))


if __name__ == "__main__":
    main()
