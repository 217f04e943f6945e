"""Backend: how many images a second OpenVINO answers in two checkouts, in turns, in one run.

    python -m bench.studies.backend_two_checkouts --before CHECKOUT --out bench/results/backend_two_checkouts.json

No service around it: the shipped weights of each checkout, random inputs, batch after batch. Each turn is a process.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from bench.machine import heading, quietness
from bench.server import ROOT
from training.provenance import commit

TURNS = 5
SIZES = (1, 32)
PRECISIONS = ("int8", "float32")

PROGRAM = """
import json
import sys
import time

import numpy as np

from manet.backends.factory import load_backend
from manet.weights.registry import resolve

precision, sizes = sys.argv[1], [int(size) for size in sys.argv[2:]]
weights = resolve("ferplus")
side = weights.preprocessing.input_size
backend = load_backend(weights, backend="openvino", precision=precision, device="cpu")


def rate(size, seconds):
    images = np.random.default_rng(0).integers(0, 256, (size, side, side, 3), dtype=np.uint8)
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        backend.infer(images)
        count += size
    return round(count / passed, 1)


rate(max(sizes), 3)  # what is compiled in the background is ready after it
print(json.dumps({size: rate(size, 3) for size in sizes}))
"""


def rates(checkout: Path, precision: str) -> dict[str, float]:
    """Return images a second by batch size."""
    command = [sys.executable, "-P", "-c", PROGRAM, precision, *map(str, SIZES)]
    environment = {"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    before = arguments.before.resolve()
    result = {**heading(), "before": commit(before), "machine_before": quietness()}
    rows = []
    for precision in PRECISIONS:
        each: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
        for _ in range(TURNS):
            for name, checkout in (("before", before), ("now", ROOT)):
                each[name].append(rates(checkout, precision))
        for size in map(str, SIZES):
            now, old = (statistics.median(turn[size] for turn in each[name]) for name in ("now", "before"))
            row = {"precision": precision, "batch": int(size), "now": now, "before": old, "ratio": round(now / old, 3)}
            rows.append(row)
            print(row, flush=True)
        result[precision] = each
    arguments.out.write_text(json.dumps(result | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
