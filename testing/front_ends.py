"""The service as several processes around fakes: what they load, and a handle on the whole."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np

from manet.backends.selection import Choice
from manet.vision.face_network import Candidates
from manet.vision.preprocess import Pixels
from manet.weights.entry import Weights
from service.inference.batched_faces import BatchedFaceNetwork
from service.processes.spec import Loaders
from service.processes.supervisor import supervise
from service.settings import Settings
from testing.fakes import RED_FACE, WEIGHTS, FakeBackend, FakeDetector
from testing.live import until
from testing.processes import ROOT, metric

HOLD, POISON, SLOW = "hold", "poison", "slow"
"""Files whose presence holds every batch, makes faces of red 200 fail, or keeps a network from being loaded."""

HOLD_FACES, BREAK_FACES = "hold faces", "break faces"
"""Files whose presence holds every batch of canvases, or makes it fail."""

_BATCHES = "batches"
"""The file in which the sizes of all batches of canvases are, one a line."""


class TouchedBackend(FakeBackend):
    """A fake network that does as the files of a folder say."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        threading.Thread(target=self._look, daemon=True).start()

    def infer(self, images: Pixels) -> Any:
        if images.any():
            self._read()
        return super().infer(images)

    def _says(self, name: str) -> bool:
        return (self._folder / name).exists()

    def _read(self) -> None:
        (self.gate.clear if self._says(HOLD) else self.gate.set)()
        self.poison = 200 if self._says(POISON) else None

    def _look(self) -> None:
        while True:
            time.sleep(0.01)
            if not self._says(HOLD):
                self.gate.set()


class FakeFaceNetwork:
    """Sees a face in the middle of each canvas that has something bright on it; fails on red 200, or by a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def batch(self, canvases: Sequence[Pixels], least: float) -> list[Candidates]:
        with (self._folder / _BATCHES).open("a") as file:
            file.write(f"{len(canvases)}\n")
        while (self._folder / HOLD_FACES).exists():
            time.sleep(0.01)
        poisoned = any((canvas == (200, 0, 0)).all(axis=-1).any() for canvas in canvases)
        if poisoned or (self._folder / BREAK_FACES).exists():
            raise RuntimeError("out of order")
        return [_middle(canvas) for canvas in canvases]


def _middle(canvas: Pixels) -> Candidates:
    """Return an upright face in the middle of a canvas, 256 pixels wide; none where all of it is dark."""
    height, width = canvas.shape[0] // 32, canvas.shape[1] // 32
    place = 2 * (16 * height * width + 4 * height * width + height // 2 * width + width // 2)
    count = int(canvas.max() > 150)  # the ground is at most 123
    points = np.array([[-1, -1, 1, -1, 0, 0, -1, 1, 1, 1]], np.float32)
    whole = np.array([place]), np.array([0.995], np.float32), np.zeros((1, 4), np.float32), points
    return Candidates(*(part[:count] for part in whole))  # type: ignore[arg-type]


def fake_faces(_settings: Settings, *, folder: Path) -> BatchedFaceNetwork:
    return BatchedFaceNetwork(FakeFaceNetwork(folder), timeout=60)


def torch_faces(_settings: Settings) -> BatchedFaceNetwork:
    from manet.backends.torch_face_network import load  # noqa: PLC0415 - PyTorch, where it is needed

    return BatchedFaceNetwork(load(Choice("torch", "float32", "cpu", "for tests")), timeout=60)


def weights(_settings: Settings) -> Weights:
    return WEIGHTS


def backend(_settings: Settings, *, folder: Path) -> TouchedBackend:
    while (folder / SLOW).exists():
        time.sleep(0.01)
    return TouchedBackend(folder)


def detector(_settings: Settings) -> FakeDetector:
    return FakeDetector()


def main(folder: str, settings: str, faces: str) -> None:
    """Serve; the arguments are the folder, the settings as JSON, and what finds faces in the engine's process."""
    found = {"": None, "fake": partial(fake_faces, folder=Path(folder)), "torch": torch_faces}[faces]
    load = Loaders(weights=weights, backend=partial(backend, folder=Path(folder)), detector=detector, faces=found)
    supervise(Settings(**json.loads(settings)), load)


@dataclass
class FrontEnds:
    """A running service and the folder that its network looks into."""

    process: "subprocess.Popen[str]"
    folder: Path
    log: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        found = re.search(r"running on (http://127\.0\.0\.1:\d+)", self.text)
        assert found, self.text
        return found[1]

    @property
    def text(self) -> str:
        """The log so far."""
        return "".join(self.log)

    @property
    def batches(self) -> list[int]:
        """The sizes of all batches of canvases so far."""
        file = self.folder / _BATCHES
        return list(map(int, file.read_text().split())) if file.exists() else []

    def pids(self, name: str) -> list[int]:
        """Return the processes of that name that were started so far, the newest last."""
        return [int(pid) for pid in re.findall(rf"{name}: process (\d+)", self.text)]

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def metric(self, name: str) -> float:
        """Return a metric, from whichever front end answers a new connection."""
        return metric(self.address, name)

    def wait_for(self, name: str, value: float) -> None:
        until(lambda: self.metric(name) == value, 30)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def post(self, data: bytes = RED_FACE, route: str = "/predict") -> httpx.Response:
        """Upload an image on a connection of its own."""
        return httpx.post(f"{self.address}{route}", files={"image": ("x", data)}, timeout=60)

    def status(self, route: str = "/predict") -> int:
        """Return the status of such an upload, or 0 where the connection was lost."""
        try:
            return self.post(route=route).status_code
        except httpx.TransportError:
            return 0

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def serving_with_front_ends(
    folder: Path, *, faces: Literal["", "fake", "torch"] = "", **settings: Any
) -> Iterator[FrontEnds]:
    """Run the service with two front ends around fakes; ``faces`` is what finds faces in the engine's process."""
    with starting_with_front_ends(folder, faces=faces, **settings) as service:
        until(lambda: "running on" in service.text or service.process.poll() is not None, 120)
        assert service.process.poll() is None, service.text
        yield service


@contextlib.contextmanager
def starting_with_front_ends(folder: Path, *, faces: str = "", **settings: Any) -> Iterator[FrontEnds]:
    """Start it, and do not wait until it is up."""
    chosen = {"port": 0, "explain": False, "front_ends": 2, **settings}
    program = "import sys; from testing.front_ends import main; main(*sys.argv[1:])"
    command = [sys.executable, "-c", program, str(folder), json.dumps(chosen), faces]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        service = FrontEnds(process, folder)
        assert process.stdout is not None
        reader = threading.Thread(target=service.log.extend, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            yield service
        finally:
            process.kill()
            reader.join(20)
