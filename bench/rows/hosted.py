"""Rows that compare the service with its own network: the bare loop runs in the same process, before and after."""

import contextlib
import json
import os
import signal
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import images, programs, sizes
from bench.server import Server, spawned, wait_ready
from bench.summary import ratio, raw
from bench.workbench import CLIENTS, FORCED, Bench
from manet.cpus import available_cpus


class Hosted:
    """A running ``bench.hosted`` and its report.

    Args:
        server: the process.
        report: the file that it appends to.
    """

    def __init__(self, server: Server, report: Path) -> None:
        self.server = server
        self._report = report

    def facts(self) -> list[dict[str, Any]]:
        """Return the report's lines so far."""
        return [json.loads(line) for line in self._report.read_text().splitlines()]

    def thread_seconds(self) -> dict[str, float]:
        """Return the CPU time so far by kind of thread."""
        count = len(self.facts())
        os.kill(self.server.process.pid, signal.SIGUSR1)
        end = time.monotonic() + 10
        while len(lines := self.facts()) == count:
            if time.monotonic() > end:
                raise RuntimeError("the hosted service does not report")
            time.sleep(0.01)
        seconds: dict[str, float] = lines[-1]["threads"]
        return seconds

    def batches(self) -> tuple[float, float]:
        """Return how many batches were served so far, and how many faces in them."""
        text = self.server.get("/metrics")[1].decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("manet_batch_size_"))
        return float(values["manet_batch_size_count"]), float(values["manet_batch_size_sum"])

    def stop(self) -> dict[str, Any]:
        """End the service, let the bare loop run, and return the whole report as one dict."""
        self.server.process.send_signal(signal.SIGTERM)
        self.server.process.wait(120)
        return {name: value for line in self.facts() for name, value in line.items() if name != "threads"}


@contextlib.contextmanager
def _hosting(bench: Bench, size: int, *, null: bool = False) -> Iterator[Hosted]:
    report = bench.folder / "hosted.jsonl"
    report.unlink(missing_ok=True)
    bare_seconds = min(3.0, bench.seconds / 3)
    program = programs.hosted(bench.weights(size), report, seconds=bare_seconds, null=null)
    log = bench.log(f"{program.name}_{size}")
    with spawned(program, log) as server:
        wait_ready(server, log)
        yield Hosted(server, report)


def _mean_bare(report: Mapping[str, Any], batch: str, figure: str) -> float:
    return statistics.mean(float(report[when][batch][figure]) for when in ("before", "after"))


def _bare_cpu_ms(report: Mapping[str, Any], batch: float) -> float:
    """Return the network's bare CPU time an image at a mean batch size, between the two nearest that were run."""
    known = sorted(int(size) for size in report["before"])
    costs = {size: _mean_bare(report, str(size), "cpu_ms_per_image") for size in known}
    below = max((size for size in known if size <= batch), default=known[0])
    above = min((size for size in known if size >= batch), default=known[-1])
    share = 0.0 if above == below else (batch - below) / (above - below)
    return costs[below] + share * (costs[above] - costs[below])


def _hosted_saturated(bench: Bench, size: int) -> dict[str, Any]:
    """Return the service's saturated throughput and CPU time beside its own network's bare loop."""
    uploads = images.crops()
    with _hosting(bench, size) as hosted:
        bench.warm(hosted.server, uploads, CLIENTS)
        threads, (batches, faces) = hosted.thread_seconds(), hosted.batches()
        samples, served = bench.load(hosted.server, uploads, clients=CLIENTS)
        after, (batches_after, faces_after) = hosted.thread_seconds(), hosted.batches()
        report = hosted.stop()
    batch = (faces_after - faces) / (batches_after - batches)
    bare = _mean_bare(report, "32", "images_per_second")
    share = served["generator_cpu_seconds"] / (served["seconds"] * available_cpus())
    done = served["requests"]
    network = _bare_cpu_ms(report, batch)
    whole = 1e3 * served["server_cpu_seconds"] / done
    spent = {kind: round(1e3 * (after[kind] - threads[kind]) / done, 3) for kind in after}
    return {
        "input_size": size,
        "backend": report["backend"],
        "bare": {when: report[when] for when in ("before", "after")},
        "bare_batch_32_per_second": round(bare, 2),
        "served": {**served, "mean_batch": round(batch, 2)},
        "served_over_bare": ratio(served["answered"], bare),
        "generator_share_of_cpu": round(share, 4),
        "served_over_bare_of_the_cpu_left": ratio(served["answered"], bare * (1 - share)),
        "cpu_ms_a_request": {
            "whole_process": round(whole, 3),
            "network_bare_at_that_batch": round(network, 3),
            "outside_the_network": round(whole - network, 3),
            "by_threads": spent,
            "outside_by_threads": round(spent["loop"] + spent["images"], 3),
        },
        "samples": raw(samples),
    }


def served_over_bare_224(bench: Bench) -> dict[str, Any]:
    """Saturated throughput at 224 over the backend's own batch-32 loop in the same process."""
    return _hosted_saturated(bench, FORCED)


def cpu_outside_network(bench: Bench) -> dict[str, Any]:
    """CPU time a request outside the network, at the weights' own size."""
    return _hosted_saturated(bench, sizes.own_size())


def one_client(bench: Bench) -> dict[str, Any]:
    """One client's median latency over the bare batch-1 call, at the weights' own size."""
    uploads = images.crops()
    with _hosting(bench, sizes.own_size()) as hosted:
        bench.warm(hosted.server, uploads, 1)
        samples, served = bench.load(hosted.server, uploads, clients=1)
        report = hosted.stop()
    bare = _mean_bare(report, "1", "median_ms")
    return {
        "input_size": sizes.own_size(),
        "backend": report["backend"],
        "bare_median_ms": round(bare, 3),
        "served": served,
        "over_bare_ms": round(served["latency_ms"]["p50"] - bare, 3),
        "samples": raw(samples),
    }


def null_backend(bench: Bench) -> dict[str, Any]:
    """Crops a second for each core the server uses, with a backend that costs nothing."""
    with _hosting(bench, sizes.own_size(), null=True) as hosted:
        bench.warm(hosted.server, images.crops(), CLIENTS)
        before = hosted.thread_seconds()
        samples, served = bench.load(hosted.server, images.crops(), clients=CLIENTS)
        after = hosted.thread_seconds()
    cores = served["server_cpu_seconds"] / served["seconds"]
    return {
        "served": served,
        "cores_used": round(cores, 3),
        "crops_a_second_for_each_core": round(served["requests"] / served["server_cpu_seconds"], 1),
        "cpu_ms_a_request": round(1e3 * served["server_cpu_seconds"] / served["requests"], 3),
        "cpu_ms_by_threads": {
            kind: round(1e3 * (after[kind] - before[kind]) / served["requests"], 3) for kind in after
        },
        "samples": raw(samples),
    }
