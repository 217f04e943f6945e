"""First batches: what the first batch of each size costs more than the ones after it, when the service is ready.

    python bench/studies/first_batches.py --out bench/results/first_batches.json

OpenVINO prepares itself for each size that it meets. The network is loaded and warmed up as at a start of the service,
and sees then one batch of each of the sizes that it is given, as the first and again.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.machine import heading, quietness
from manet.backends.openvino.backend import SIZES, OpenVINOBackend, network_of
from manet.backends.selection import Precision
from manet.weights.registry import get

PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
THREADS = 2
AGAIN = 5
START = (1, SIZES[-1])
"""Sizes that the service asks for at its start."""


def measured(precision: Precision) -> dict[str, Any]:
    """Return milliseconds and memory of each size's first batch, and the milliseconds of those after it."""
    weights = get("ferplus")
    side = weights.preprocessing.input_size
    network = network_of(weights, precision, threads=THREADS, store=None)
    backend = OpenVINOBackend(network, side=side, precision=precision, reason="requested")

    def milliseconds(size: int) -> float:
        began = time.perf_counter()
        backend.infer(np.zeros((size, side, side, 3), np.uint8))
        return 1e3 * (time.perf_counter() - began)

    backend.warmup(START)
    for size in START:
        milliseconds(size)
    rows = []
    for size in [size * len(network.apart) for size in SIZES if size * len(network.apart) not in START]:
        held, first = _resident_mib(), milliseconds(size)
        taken = _resident_mib() - held
        hot = statistics.median(milliseconds(size) for _ in range(AGAIN))
        row = {"size": size, "first_ms": first, "again_ms": hot, "more_ms": first - hot, "memory_mib": taken}
        rows.append({key: round(value, 1) for key, value in row.items()})
    return {"precision": precision, "threads": THREADS, "side": side, "sizes": rows}


def _resident_mib() -> float:
    return float(psutil.Process().memory_info().rss / 2**20)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    quiet = quietness()
    found = [measured(precision) for precision in PRECISIONS]
    print(json.dumps(found))
    arguments.out.write_text(json.dumps({**heading(), "machine_before": quiet, "found": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
