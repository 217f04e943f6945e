"""The service as several processes around fakes: what they load, and a handle on the whole."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from manet.vision.preprocess import Pixels
from manet.weights.entry import Weights
from service.processes.spec import Loaders
from service.processes.supervisor import supervise
from service.settings import Settings
from testing.fakes import WEIGHTS, FakeBackend, FakeDetector
from testing.live import until
from testing.processes import ROOT, metric

HOLD, POISON, SLOW = "hold", "poison", "slow"
"""Files whose presence holds every batch, makes faces of red 200 fail, or keeps a network from being loaded."""


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


def weights(_settings: Settings) -> Weights:
    return WEIGHTS


def backend(_settings: Settings, *, folder: Path) -> TouchedBackend:
    while (folder / SLOW).exists():
        time.sleep(0.01)
    return TouchedBackend(folder)


def detector(_settings: Settings) -> FakeDetector:
    return FakeDetector()


def main(folder: str, settings: str) -> None:
    """Serve; the arguments are the folder and the settings as JSON."""
    load = Loaders(weights=weights, backend=partial(backend, folder=Path(folder)), detector=detector)
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

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def serving_with_front_ends(folder: Path, **settings: Any) -> Iterator[FrontEnds]:
    """Run the service with two front ends around fakes."""
    with starting_with_front_ends(folder, **settings) as service:
        until(lambda: "running on" in service.text or service.process.poll() is not None, 120)
        assert service.process.poll() is None, service.text
        yield service


@contextlib.contextmanager
def starting_with_front_ends(folder: Path, **settings: Any) -> Iterator[FrontEnds]:
    """Start it, and do not wait until it is up."""
    chosen = {"port": 0, "explain": False, "front_ends": 2, **settings}
    program = "import sys; from testing.front_ends import main; main(*sys.argv[1:])"
    command = [sys.executable, "-c", program, str(folder), json.dumps(chosen)]
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
