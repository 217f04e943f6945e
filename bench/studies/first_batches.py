"""First batches and canvases: what the first of each size costs more than those after it, when the service is ready.

    python bench/studies/first_batches.py --out bench/results/first_batches.json

OpenVINO prepares itself for each size that it meets. The networks are loaded and warmed up as at a start of the
service, and see then one batch, or a canvas, of each of the sizes that they are given, as the first and again. Where
another network is compiled when many images first come, their batches follow each other until it answers.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.machine import heading, quietness
from manet.backends.openvino.backend import SIZES, Network, OpenVINOBackend, network_of
from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.backends.selection import Precision
from manet.vision.retinaface import RetinaFaceDetector
from manet.weights.registry import get

PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
THREADS = 2
AGAIN = 5
CANVASES = ((544, 672), (416, 672), (672, 672), (672, 544), (672, 416))
"""Height and width of the canvases of most photographs, as cameras take them; a start prepares for the first."""


def measured(precision: Precision) -> dict[str, Any]:
    """Return milliseconds and memory of each size's first batch, and the milliseconds of those after it."""
    weights = get("ferplus")
    side = weights.preprocessing.input_size
    network = network_of(weights, precision, threads=THREADS, store=None)
    backend = OpenVINOBackend(network, side=side, precision=precision, reason="requested")

    def infer(size: int) -> None:
        backend.infer(np.zeros((size, side, side, 3), np.uint8))

    warm = backend.warmup((1, SIZES[-1]))
    many = _until_prepared(network, partial(infer, SIZES[-1])) if precision == "int8" else None
    parts = THREADS if many else 1
    sizes = [size * parts for size in SIZES if size * parts not in warm]
    rows = [{"size": size, **_first_and_again(partial(infer, size))} for size in sizes]
    return {"precision": precision, "threads": THREADS, "side": side, "sizes": rows, "many": many}


def _until_prepared(network: Network, infer: Callable[[], object]) -> dict[str, Any]:
    """Return what batches of many images take until the network for many has been compiled, and after that."""
    held, began = _resident_mib(), time.perf_counter()
    meanwhile = [_milliseconds(infer)]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(network.prepare)
        while not waiting.done():
            meanwhile.append(_milliseconds(infer))
    seconds = time.perf_counter() - began
    after = [_milliseconds(infer) for _ in range(AGAIN)]
    found = {"seconds": round(seconds, 2), "memory_mib": round(_resident_mib() - held, 1)}
    return found | {
        "meanwhile_ms": [round(took, 1) for took in meanwhile],
        "after_ms": [round(took, 1) for took in after],
    }


def measured_canvases() -> dict[str, Any]:
    """Return the same of the detector's network and its canvases."""
    network = OpenVinoFaceNetwork(threads=1)
    RetinaFaceDetector(network).warmup()
    blank = [np.zeros((*shape, 3), np.uint8) for shape in CANVASES]
    rows = [{"canvas": one.shape[:2], **_first_and_again(partial(network.candidates, one, 0.8))} for one in blank]
    return {"precision": "float32", "threads": 1, "canvases": rows}


def _first_and_again(infer: Callable[[], object]) -> dict[str, float]:
    held, first = _resident_mib(), _milliseconds(infer)
    taken = _resident_mib() - held
    hot = statistics.median(_milliseconds(infer) for _ in range(AGAIN))
    row = {"first_ms": first, "again_ms": hot, "more_ms": first - hot, "memory_mib": taken}
    return {key: round(value, 1) for key, value in row.items()}


def _milliseconds(infer: Callable[[], object]) -> float:
    began = time.perf_counter()
    infer()
    return 1e3 * (time.perf_counter() - began)


def _resident_mib() -> float:
    return float(psutil.Process().memory_info().rss / 2**20)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    quiet = quietness()
    found = [measured(precision) for precision in PRECISIONS]
    result = {**heading(), "machine_before": quiet, "found": found, "detector": measured_canvases()}
    print(json.dumps(result["found"] + [result["detector"]]))
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
