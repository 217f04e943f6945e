"""Start: from nothing to ready in two checkouts, in turns, in one run; and what is held then.

    python bench/studies/start.py --before CHECKOUT --out bench/results/start_two_checkouts.json

Seconds are from starting the process to the first 200 of ``/health/ready``, without a cache of any kind; CPU seconds
are those of the whole process, its end included; memory is what is resident when it is ready.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.machine import heading, quietness
from bench.server import ROOT
from testing.processes import free_port

TURNS = 7
LIMIT = 60.0
"""Seconds in which a service must be ready."""


def start(checkout: Path, flags: Sequence[str]) -> dict[str, float]:
    """Start the service of a checkout until it is ready, end it, and return what that took."""
    port = free_port()
    before, began = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "service", "--port", str(port), *flags]
    quiet = subprocess.DEVNULL
    with (
        subprocess.Popen(command, cwd=checkout, stdout=quiet, stderr=quiet) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        try:
            while not _ready(client):
                if process.poll() is not None or time.perf_counter() - began > LIMIT:
                    raise RuntimeError(f"the service of {checkout} did not become ready")
                time.sleep(0.02)
            seconds = time.perf_counter() - began
            resident = psutil.Process(process.pid).memory_info().rss / 2**20
        finally:
            process.terminate()
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": round(seconds, 2), "cpu_seconds": round(spent, 2), "resident_mib": round(resident, 1)}


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("flags", nargs="*", help="of the service, after --")
    arguments = parser.parse_args()
    quiet = quietness()
    checkouts = {"before": arguments.before.resolve(), "now": ROOT}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(TURNS):
        for name, checkout in checkouts.items():
            found[name].append(start(checkout, arguments.flags))
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()
    }
    ratios = {key: round(medians["now"][key] / medians["before"][key], 3) for key in medians["now"]}
    revision = ["git", "-C", str(arguments.before), "rev-parse", "HEAD"]
    commit = subprocess.run(revision, capture_output=True, text=True, check=True).stdout.strip()
    result: dict[str, Any] = {**heading(), "before": commit, "flags": arguments.flags, "machine_before": quiet}
    result |= {"medians": medians, "now_over_before": ratios, "each": found}
    print(json.dumps(medians | {"now_over_before": ratios}))
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
