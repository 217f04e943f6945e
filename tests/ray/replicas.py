"""Replicas around a fake network that a test can watch from another process, through a folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from ray import serve

from manet.backends import Logits
from manet.faces import DetectedFace
from manet.preprocess import Pixels
from manet.recognizer import Recognizer
from service.ray_app import ClusterSettings, Loader, application
from service.settings import Settings
from tests.service.fakes import WEIGHTS, FakeBackend, FakeDetector, encode, paint


class Breakable(FakeBackend):
    """A network that breaks for good once the folder says that the process's network is broken."""

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__(seconds)
        self._mark = folder / f"{os.getpid()}.broken"

    def infer(self, images: Pixels) -> Logits:
        self.broken = self.broken or self._mark.exists()
        return super().infer(images)


class Noting(FakeDetector):
    """A detector that notes which pictures its process has looked at: their number is in the first pixel."""

    def __init__(self, folder: Path) -> None:
        self._notes = (folder / f"{os.getpid()}.seen").open("a", buffering=1)

    def detect(self, image: Pixels) -> list[DetectedFace]:
        _, high, low = image[0, 0].tolist()
        self._notes.write(f"{high * 256 + low}\n")
        return super().detect(image)


def load(folder: Path, seconds: float, settings: Settings) -> Recognizer:
    """Return a replica's recognizer; each batch takes so many seconds."""
    return Recognizer(WEIGHTS, Breakable(folder, seconds), Noting(folder))


def loader(folder: Path, seconds: float) -> Loader:
    """Return what a replica calls."""
    return partial(load, folder, seconds)


def picture(number: int) -> bytes:
    """Return a picture with one red face whose first pixel tells the number."""
    return encode(paint((255, number // 256, number % 256)))


def seen(folder: Path) -> dict[int, set[int]]:
    """Return the pictures that each process has looked at."""
    return {int(path.stem): set(map(int, path.read_text().split())) for path in folder.glob("*.seen")}


@dataclass(frozen=True)
class Application:
    """A running application."""

    name: str
    address: str

    def wait_for(self, replicas: int, seconds: float = 60.0) -> None:
        """Return when exactly so many replicas run and none is coming or going."""
        end = time.monotonic() + seconds
        while (found := self._replicas()) != {"RUNNING": replicas}:
            assert time.monotonic() < end, f"{found} instead of {replicas} replicas"
            time.sleep(0.1)

    def _replicas(self) -> dict[str, int]:
        [deployment] = serve.status().applications[self.name].deployments.values()
        return {str(state): count for state, count in deployment.replica_states.items() if count}

    def post(self, data: bytes, **query: object) -> httpx.Response:
        """Upload one picture."""
        return httpx.post(f"{self.address}/predict", params=query, files={"image": data}, timeout=60)


@contextmanager
def serving(name: str, port: int, settings: ClusterSettings, load: Loader) -> Iterator[Application]:
    """Run an application until the end of the block."""
    try:
        serve.run(application(settings, load), name=name, route_prefix=f"/{name}")
        yield Application(name, f"http://127.0.0.1:{port}/{name}")
    finally:
        serve.delete(name)
