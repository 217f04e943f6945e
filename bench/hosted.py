"""Hosted: the service, and the bare loop of its own network, in one process.

    MANET_PORT=0 python -m bench.hosted --report FILE [--null]

Settings are the service's own variables. Before it serves and after SIGTERM it runs the network bare, by batch size;
each appends a line of JSON to the report. SIGUSR1 appends the CPU time so far by kind of thread: ``loop`` is HTTP,
``images`` decodes, ``network`` is everything else, which is the engine and its own threads.
"""

import argparse
import json
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from bench.bare import bare
from manet.backends.base import Backend, Logits
from manet.backends.factory import load_backend
from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.recognizer import Recognizer
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import RetinaFaceDetector
from manet.weights.registry import resolve
from service.app import create_app
from service.clock import SystemClock
from service.runtime import tune_memory, tune_threads
from service.server import server
from service.settings import Settings


class NullBackend:
    """A network that costs nothing: all logits are zero.

    Args:
        classes: how many.
    """

    name, precision, device, reason = "null", "none", "cpu", "requested"

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def warmup(self, batch_sizes: Sequence[int]) -> Sequence[int]:
        """Do nothing."""
        return batch_sizes

    def infer(self, images: Pixels) -> Logits:
        """Return zeros, float32 (N, classes)."""
        return np.zeros((len(images), self._classes), np.float32)

    def close(self) -> None:
        """Do nothing."""


class KeptOpen:
    """A backend that outlives the service.

    Args:
        backend: what answers.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.precision = backend.name, backend.precision
        self.device, self.reason = backend.device, backend.reason
        self.warmup, self.infer = backend.warmup, backend.infer

    def close(self) -> None:
        """Leave it open for the loop that follows."""


def thread_seconds() -> Mapping[str, float]:
    """Return the CPU time of the process's threads so far, by kind (Linux, ``/proc/PID/task/TID/schedstat``)."""
    names = {str(thread.native_id): thread.name for thread in threading.enumerate()}
    spent = {"loop": 0.0, "images": 0.0, "network": 0.0}
    for task in Path("/proc/self/task").iterdir():
        name = names.get(task.name, "")
        kind = "loop" if name == "MainThread" else "images" if name.startswith("image") else "network"
        spent[kind] += int((task / "schedstat").read_text().split()[0]) / 1e9
    return spent


def main() -> None:
    """Run the network bare, serve until SIGTERM, run it bare again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3, help="of bare work, for each batch size")
    parser.add_argument("--null", action="store_true", help="a network that costs nothing")
    asked = parser.parse_args()

    def report(**facts: Any) -> None:
        with asked.report.open("a") as file:
            file.write(json.dumps(facts) + "\n")

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        report(threads=thread_seconds())

    tune_threads()
    settings = Settings()
    weights = resolve(settings.weights)
    side = weights.preprocessing.input_size
    backend: Backend = NullBackend(len(weights.classes))
    if not asked.null:
        backend = load_backend(
            weights,
            backend=settings.backend,
            precision=settings.precision,
            device=settings.device,
            threads=settings.threads,
        )
    report(backend=[backend.name, backend.precision, backend.device], side=side)
    if not asked.null:
        report(before=bare(backend.infer, side, asked.seconds))
    signal.signal(signal.SIGUSR1, on_signal)
    recognizer = Recognizer(weights, KeptOpen(backend), RetinaFaceDetector(OpenVinoFaceNetwork()))
    app = create_app(settings, recognizer, SystemClock())
    tune_memory()
    server(app, settings).run()
    if not asked.null:
        report(after=bare(backend.infer, side, asked.seconds))


if __name__ == "__main__":
    main()
