"""Decoding: JPEGs a second on the processor's threads, beside which a GPU waits for images."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from bench import images
from bench.gpu.setting import Row, Setting
from manet.cpus import available_cpus
from manet.vision.images import ImageLimits, read_crop, read_image
from manet.weights.registry import get


def decode(setting: Setting) -> Iterator[Row]:
    """Yield images a second of a photograph and of a crop, decoded as the service does, on one thread and on all."""
    photograph, crop = images.photographs()[0], images.crops()[0]
    spec, limits = get("ferplus").preprocessing, ImageLimits()
    ways: dict[str, Callable[[], object]] = {
        "photograph": lambda: read_image(photograph, limits=limits),
        "crop": lambda: read_crop(crop, spec, limits=limits),
    }
    for name, call in ways.items():
        for threads in sorted({1, available_cpus()}):
            rate = _rate(call, threads, setting.scale.seconds)
            yield {"what": "decoding", "image": name, "threads": threads, "images_per_second": round(rate, 1)}


def _rate(call: Callable[[], object], threads: int, seconds: float) -> float:
    """Return calls a second, each thread calling for that long."""

    def repeat() -> int:
        count, end = 0, time.perf_counter() + seconds
        while not count or time.perf_counter() < end:
            call()
            count += 1
        return count

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        counts = [future.result() for future in [pool.submit(repeat) for _ in range(threads)]]
    return sum(counts) / (time.perf_counter() - began)
