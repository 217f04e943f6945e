"""Engines: how many images a second each engine answers by itself, in every number format and way to run it.

    python -m bench.studies.engines --out bench/results/engines.json

No service around it and no decoding: random inputs of the shipped weights' size, batch after batch, each way
in turn within every round, so that a machine that changes its pace changes it for all.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.bare import SIZES, Infer, noise
from bench.machine import heading
from manet.backends.base import Logits, PrecisionName
from manet.backends.factory import load_backend
from manet.backends.openvino.backend import compiled, graph_of
from manet.backends.selection import Precision
from manet.cpus import available_cpus
from manet.nn.classifier import load_classifier
from manet.vision.preprocess import Pixels
from manet.weights.entry import Weights
from manet.weights.registry import get


def ways(weights: Weights, threads: int) -> Mapping[str, Infer]:
    """Return what is compared, by name."""
    found: dict[str, Infer] = {}
    side = weights.preprocessing.input_size
    precisions: tuple[Precision, ...] = ("float32", "bf16", "int8")
    for precision in precisions:
        graph = graph_of(weights, precision, store=None)
        for name, apart in {"shared": False, "apart": True}.items():
            network = compiled(graph, side=side, precision=precision, threads=threads, apart=apart)
            network.prepare()
            found[f"openvino {precision}, {name}"] = network.infer
    torch_precisions: tuple[PrecisionName, ...] = ("float32", "bf16")
    for torch_precision in torch_precisions:
        backend = load_backend(weights, backend="torch", precision=torch_precision, device="cpu", threads=threads)
        found[f"torch {torch_precision}"] = backend.infer
    found["torch float32, compiled"] = _compiled(weights)
    return found


def _compiled(weights: Weights) -> Infer:
    """Return PyTorch's network by ``torch.compile`` (Inductor, C++), one graph for each batch size."""
    classifier = load_classifier(weights, None).eval().to(memory_format=torch.channels_last)
    network = torch.compile(classifier, dynamic=False)

    def infer(images: Pixels) -> Logits:
        with torch.inference_mode():
            logits: Logits = network(torch.from_numpy(images)).numpy()
        return logits

    return infer


def measure(found: Mapping[str, Infer], side: int, rounds: int, seconds: float) -> Sequence[dict[str, Any]]:
    """Return, for each way and batch size, the images a second of every round and their median."""
    rows = []
    for batch in SIZES:
        images = noise(batch, side)
        rates: dict[str, list[float]] = {name: [] for name in found}
        first = {name: _seconds(infer, images) for name, infer in found.items()}
        for _ in range(rounds):
            for name, infer in found.items():
                rates[name].append(_rate(infer, images, seconds))
        for name, all_rounds in rates.items():
            median = statistics.median(all_rounds)
            rows.append(
                {
                    "way": name,
                    "batch": batch,
                    "images_per_second": round(median, 1),
                    "batch_ms": round(1e3 * batch / median, 2),
                    "first_batch_seconds": round(first[name], 2),
                    "rounds": [round(rate, 1) for rate in all_rounds],
                }
            )
            print(json.dumps(rows[-1]))
    return rows


def _seconds(infer: Infer, images: Pixels) -> float:
    began = time.perf_counter()
    infer(images)
    return time.perf_counter() - began


def _rate(infer: Infer, images: Pixels, seconds: float) -> float:
    began, batches = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds:
        infer(images)
        batches += 1
    return batches * len(images) / spent


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    weights, threads = get("ferplus"), available_cpus()
    rows = measure(ways(weights, threads), weights.preprocessing.input_size, asked.rounds, asked.seconds)
    result = {"what": "engines by themselves", **heading(), "threads": threads, "weights": weights.id, "rows": rows}
    asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
