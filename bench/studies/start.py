"""Start: from nothing to ready in two checkouts, in turns, in one run; and what is held then.

    python bench/studies/start.py --before CHECKOUT --out bench/results/start_two_checkouts.json

Seconds are from starting the process to the first 200 of ``/health/ready``, without a cache of any kind; CPU seconds
and resident memory are those of the process at that moment.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench import sizes
from bench.machine import heading, quietness
from bench.programs import ours
from bench.server import ROOT, spawned, wait_ready
from training.provenance import commit

TURNS = 7


def start(checkout: Path, precision: str, log: Path) -> dict[str, float]:
    """Start the service of a checkout until it is ready, and return what that took."""
    program = ours(sizes.DEFAULT, precision=precision)
    own = {**program.environment, "PYTHONPATH": str(checkout)}
    program = replace(program, command=("-P", *program.command), environment=own)  # -P: not from the working folder
    began = time.perf_counter()
    with spawned(program, log) as server:
        wait_ready(server, log, pause=0.005)
        seconds = time.perf_counter() - began
        found = {"seconds": seconds, "cpu_seconds": server.cpu_seconds(), "resident_mib": server.resident_mb()}
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--precision", default="auto", help="auto, float32, bf16 or int8")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    before = arguments.before.resolve()
    result = {
        **heading(),
        "precision": arguments.precision,
        "before": commit(before),
        "machine_before": quietness(),
    }
    each: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(TURNS):
            for name, checkout in (("before", before), ("now", ROOT)):
                each[name].append(start(checkout, arguments.precision, Path(folder, "log")))
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in each.items()
    }
    ratios = {key: round(medians["now"][key] / medians["before"][key], 3) for key in medians["now"]}
    result |= {"medians": medians, "now_over_before": ratios, "each": each}
    print(json.dumps(medians | {"now_over_before": ratios}))
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
