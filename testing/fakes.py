"""A recognizer whose answers a test can foretell: the detector sees what is bright, the network answers by colour."""

import asyncio
import contextlib
import io
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pillow_heif
from fastapi import FastAPI
from PIL import Image

from manet.backends.base import Logits
from manet.recognizer import Recognizer
from manet.vision.faces import Box, DetectedFace, FaceDetector, Landmarks, Point
from manet.vision.preprocess import Pixels, Preprocessing
from manet.weights.entry import Weights
from manet.weights.registry import get
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings

SIDE = 32
WEIGHTS = replace(get("ferplus"), preprocessing=Preprocessing(input_size=SIDE, colour="rgb"), crop=None)
RED, GREEN, BLUE = WEIGHTS.classes[:3]
"""What a red, a green and a blue face are answered with."""


class FakeBackend:
    """A network that answers with the mean of each colour; a test can hold it, slow it down and break it."""

    name, precision, device, reason = "fake", "float32", "cpu", "fake: for tests"

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.broken = False
        self.poison: int | None = None
        self._seconds = seconds

    def warmup(self, batch_sizes: Sequence[int]) -> Sequence[int]:
        for size in batch_sizes:
            self.infer(np.zeros((size, SIDE, SIDE, 3), np.uint8))
        self.batches.clear()
        self.entered.clear()
        return batch_sizes

    def infer(self, images: Pixels) -> Logits:
        if images.any():  # blank batches are the scheduler's own
            self.batches.append(len(images))
            self.entered.set()
            assert self.gate.wait(20), "a batch was held and never let go"
            time.sleep(self._seconds)
        if self.broken or (self.poison is not None and (images[:, 0, 0, 0] == self.poison).any()):
            raise RuntimeError("out of order")
        logits = np.zeros((len(images), len(WEIGHTS.classes)), np.float32)
        logits[:, :3] = images.mean(axis=(1, 2)) / 32
        return logits

    def close(self) -> None:
        self.broken = True


class FakeDetector:
    """Sees one face in each bright half of an image, left and right; the image's own width first."""

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        height, width = image.shape[:2]
        half = max(1, width // 2)
        return [_face(Box(x, 0, half, height)) for x in (0, half) if x < width and image[:, x : x + half].mean() > 20]


class BrokenDetector:
    """Fails on every image, as no image should make a detector do."""

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        raise RuntimeError("/secret/path: the detector is out of order")


def _face(box: Box) -> DetectedFace:
    middle = Point(box.x + box.width / 2, box.y + box.height / 2)
    return DetectedFace(box, 0.75, Landmarks(*[middle] * 5))


def recognizer(backend: FakeBackend | None = None) -> Recognizer:
    """Return a recognizer of fakes."""
    return Recognizer(WEIGHTS, FakeBackend() if backend is None else backend, FakeDetector())


def paint(
    left: tuple[int, int, int], right: tuple[int, int, int] = (0, 0, 0), size: tuple[int, int] = (64, 48)
) -> Image.Image:
    """Return an image of two colours, side by side."""
    image = Image.new("RGB", size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    return image


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """Return the image as a file; ``format`` is Pillow's name, or ``HEIC``."""
    buffer = io.BytesIO()
    if format == "HEIC":
        pillow_heif.from_pillow(image).save(buffer, **options)
    else:
        image.save(buffer, format, **options)
    return buffer.getvalue()


RED_FACE = encode(paint((255, 0, 0)))
NO_FACE = encode(paint((0, 0, 0)))


@contextlib.asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an application that is started and, in the end, stopped."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30) as client:
            yield client


def make_app(
    backend: FakeBackend | None = None,
    *,
    detector: FaceDetector | None = None,
    weights: Weights = WEIGHTS,
    **settings: Any,
) -> FastAPI:
    """Return the real application around fakes."""
    found = Recognizer(weights, backend or FakeBackend(), detector or FakeDetector())
    return create_app(Settings(**settings), found, SystemClock())


async def post(client: httpx.AsyncClient, data: bytes, **query: str | int) -> httpx.Response:
    """Upload one image."""
    return await client.post("/predict", params=query, files={"image": ("x", data)})


async def until(happened: threading.Event) -> None:
    """Wait, without holding the loop, until something happened in another thread."""
    assert await asyncio.to_thread(happened.wait, 20), "it did not happen"
