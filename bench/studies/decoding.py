"""Decoding: whether decoding a JPEG straight to the network's input (``images.read_crop``) changes its answers.

    python bench/studies/decoding.py --data DIR --out bench/results/decoding.json

Each image of FER+ Valid is enlarged to an upload's size, tinted as skin in warm light is, saved as a colour JPEG of
quality 90, and answered twice: from the crop as the service reads it, and from the whole image decoded as it is.
"""

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

from bench.machine import heading
from manet import Recognizer
from manet.recognizer import FaceInput
from manet.vision.images import ImageLimits, read_crop, read_image
from manet.vision.preprocess import Pixels, network_input
from training.data.datasets import ferplus
from training.data.datasets.expression_set import ExpressionSet

SIDES = (112, 224, 448)
"""Of the uploads, in pixels."""

_TINT = (1.0, 0.78, 0.66)
_BATCH = 32
_LIMITS = ImageLimits()


def measure(recognizer: Recognizer, valid: ExpressionSet, side: int) -> dict[str, Any]:
    """Return accuracies both ways, how often and how far the answers differ, and the time to the network's input."""
    spec, classes = recognizer.weights.preprocessing, recognizer.weights.classes
    ways: dict[str, Callable[[bytes], Pixels]] = {
        "crop": lambda data: read_crop(data, spec, limits=_LIMITS).pixels,
        "whole": lambda data: network_input(read_image(data, limits=_LIMITS), spec),
    }
    seconds = dict.fromkeys(ways, 0.0)
    answers: dict[str, list[list[float]]] = {way: [] for way in ways}
    for start in track(range(0, len(valid), _BATCH), f"{side} px"):
        uploads = [_upload(valid.read(index), side) for index in range(start, min(start + _BATCH, len(valid)))]
        for way, read in ways.items():
            began = time.process_time()
            inputs = [read(data) for data in uploads]
            seconds[way] += time.process_time() - began
            for pixels, logits in zip(inputs, recognizer.classify(np.stack(inputs)), strict=True):
                answers[way].append(list(recognizer.read(FaceInput(None, pixels), logits).probabilities.values()))
    crop, whole = (np.array(answers[way]) for way in ("crop", "whole"))
    labels = np.array([classes.index(valid.classes[label]) for label in valid.labels])
    apart = np.abs(crop - whole).max(1)
    return {
        "side": side,
        "accuracy": {way: round(100 * float((np.array(answers[way]).argmax(1) == labels).mean()), 2) for way in ways},
        "same_answer_percent": round(100 * float((crop.argmax(1) == whole.argmax(1)).mean()), 2),
        "probability_apart": {"mean": round(float(apart.mean()), 5), "p99": round(float(np.quantile(apart, 0.99)), 5)},
        "milliseconds_a_image": {way: round(1e3 * spent / len(valid), 3) for way, spent in seconds.items()},
    }


def _upload(face: np.ndarray, side: int) -> bytes:
    buffer = io.BytesIO()
    tinted = Image.fromarray((face * np.array(_TINT)).round().astype(np.uint8))
    tinted.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ferplus/")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    recognizer = Recognizer.from_weights()
    valid = ferplus.load(asked.data, "valid")
    rows = [measure(recognizer, valid, side) for side in SIDES]
    engine = f"{recognizer.backend.name}, {recognizer.backend.precision}"
    result = {**heading(), "engine": engine, "images": len(valid), "protocol": valid.protocol, "rows": rows}
    asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
