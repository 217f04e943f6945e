"""Offline: images a second of ``manet predict --executor ray`` on this machine, beside a plain loop in one process.

    python bench/offline.py --images 10000 --out bench/results/offline.json

The images are drawn at run time into a temporary folder: the astronaut that scikit-image ships (NASA, public
domain), turned, lit, sized and compressed at random, no two alike. Both engines run with one thread each actor or
process; the plain loop takes every image of a sample.
"""

import argparse
import json
import logging
import os
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import ray
import skimage.data
from PIL import Image, ImageEnhance

from manet.offline.loading import Resources
from manet.offline.pipeline import Progress, predict_at_scale
from manet.offline.plan import Job
from manet.recognizer import Recognizer
from manet.vision.images import ImageLimits, read_image
from manet.weights.registry import get
from training.provenance import commit, machine

BILLION = 1_000_000_000


def draw(folder: Path, numbers: range) -> None:
    """Draw the images of these numbers."""
    portrait = Image.fromarray(skimage.data.astronaut())
    for number in numbers:
        random = np.random.default_rng(number)
        side = int(random.integers(256, 640))
        image = portrait.rotate(random.uniform(-20, 20), Image.Resampling.BILINEAR).resize((side, side))
        image = ImageEnhance.Brightness(image).enhance(random.uniform(0.6, 1.3))
        below = folder / f"{number // 1000:03}"
        below.mkdir(exist_ok=True)
        image.save(below / f"{number:06}.jpg", quality=int(random.integers(60, 95)))


def plain(paths: list[Path]) -> dict[str, Any]:
    """Return what a loop over these images takes, in one process with one thread for the network."""
    recognizer = Recognizer.from_weights(threads=1)
    recognizer.recognize(read_image(paths[0].read_bytes(), limits=ImageLimits()))
    began, cpu = time.perf_counter(), time.process_time()
    faces = sum(len(recognizer.recognize(read_image(path.read_bytes(), limits=ImageLimits()))) for path in paths)
    took = time.perf_counter() - began
    return {
        "network": f"{recognizer.backend.name}, {recognizer.backend.precision}",
        "images": len(paths),
        "faces": faces,
        "seconds": round(took, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "images_per_second": round(len(paths) / took, 2),
    }


def at_scale(folder: Path, out: Path, cpus: int, part_images: int) -> dict[str, Any]:
    """Return what the same folder takes on a Ray cluster of this one machine."""
    weights = get("ferplus")
    job = Job(
        sources=(str(folder),),
        weights=weights.id,
        sha256=weights.sha256,
        faces="detect",
        max_faces=32,
        part_images=part_images,
        column="image",
        name_column=None,
    )
    ends: list[tuple[float, int, int]] = []
    began = time.perf_counter()

    def report(progress: Progress) -> None:
        if progress.last is not None:
            ends.append((time.perf_counter() - began, progress.last.images, progress.last.faces))

    with Memory() as memory:
        predict_at_scale(job, out, resources=Resources(), address=None, report=report)
    took = time.perf_counter() - began
    images = sum(count for _, count, _ in ends)
    # Between the first part's end and the last one's: what a run of days is like, without its start.
    steady = (images - ends[0][1]) / (ends[-1][0] - ends[0][0])
    return {
        "images": images,
        "faces": sum(faces for _, _, faces in ends),
        "parts": len(ends),
        "cpus": cpus,
        "seconds": round(took, 2),
        "first_part_after_seconds": round(ends[0][0], 2),
        "images_per_second": round(images / took, 2),
        "images_per_second_once_started": round(steady, 2),
        "images_per_second_and_core": round(steady / cpus, 2),
        "peak_memory_mb": round(memory.peak / 2**20),
    }


class Memory:
    """The most memory that this machine's processes held at once beyond what they held at first, in bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._sample)

    def __enter__(self) -> "Memory":
        """Begin to look, twice a second."""
        self._before = _available()
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop looking."""
        self._stop.set()
        self._watch.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.5):
            self.peak = max(self.peak, self._before - _available())


def _available() -> int:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Draw, run both and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--plain-images", type=int, default=500, help="the sample that the plain loop takes")
    parser.add_argument("--part-images", type=int, default=250)
    parser.add_argument("--folder", type=Path, help="where the images are, or are drawn to and kept")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    cpus = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as own:
        folder = asked.folder or Path(own) / "images"
        if not folder.exists():
            folder.mkdir(parents=True)
            chunks = [range(first, min(first + 500, asked.images)) for first in range(0, asked.images, 500)]
            with ProcessPoolExecutor(cpus) as pool:
                list(pool.map(draw, [folder] * len(chunks), chunks))
        if asked.out is None:
            return
        paths = sorted(folder.rglob("*.jpg"))
        one = plain(paths[:: max(1, len(paths) // asked.plain_images)])
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init(num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR, object_store_memory=512 * 2**20)
        many = at_scale(folder, Path(own) / "answers", cpus, asked.part_images)
        ray.shutdown()
    rate = many["images_per_second_and_core"]
    result = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "model": "ferplus",
        "plain_loop": one,
        "ray": many,
        "ray_over_plain_loop": round(many["images_per_second_once_started"] / one["images_per_second"], 2),
        "a_billion_images_in_core_hours": round(BILLION / rate / 3600),
    }
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
