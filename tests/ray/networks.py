"""What the actors of an offline run load when a test wants them killed, slow, or fakes.

``python -m tests.ray.networks IMAGES OUT ADDRESS`` is a run of slow fakes in a process of its own.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from manet.backends.base import Backend, Logits
from manet.offline import loading
from manet.offline.loading import Loaders, Resources
from manet.offline.pipeline import Progress, predict_at_scale
from manet.offline.plan import Job
from manet.recognizer import Recognizer
from manet.vision.faces import DetectedFace, FaceDetector
from manet.vision.preprocess import Pixels
from testing.fakes import WEIGHTS, FakeBackend, FakeDetector


@dataclass
class Death:
    """Kills its process over a piece of work, once.

    Args:
        mark: a file that is there when it is done.
        pieces: of work that are done before.
    """

    mark: Path
    pieces: int

    def comes(self) -> None:
        """Begin a piece of work."""
        self.pieces -= 1
        if self.pieces >= 0 or self.mark.exists():
            return
        self.mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class MortalDetector:
    """A detector whose process is killed over an image."""

    def __init__(self, detector: FaceDetector, death: Death) -> None:
        self._detector = detector
        self._death = death

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        self._death.comes()
        return self._detector.detect(image, small_faces=small_faces)


class MortalBackend:
    """A network whose process is killed over a batch."""

    def __init__(self, backend: Backend, death: Death) -> None:
        self._backend = backend
        self._death = death
        self.name, self.precision, self.device = backend.name, backend.precision, backend.device
        self.reason = backend.reason

    def warmup(self, batch_sizes: Sequence[int]) -> Sequence[int]:
        return self._backend.warmup(batch_sizes)

    def infer(self, images: Pixels) -> Logits:
        self._death.comes()
        return self._backend.infer(images)

    def close(self) -> None:
        self._backend.close()


@dataclass(frozen=True)
class Killed:
    """What the command loads, but one process that finds faces and one with the network are killed meanwhile."""

    marks: Path

    def loaders(self) -> Loaders:
        """Return what the actors call."""
        return Loaders(finder=self.finder, network=self.network)

    def finder(self, job: Job, resources: Resources) -> Recognizer:
        """Load it; its third image is the end."""
        one = loading.finder(job, resources)
        death = Death(self.marks / "finder", pieces=2)
        return Recognizer(one.weights, one.backend, MortalDetector(one.detector, death))

    def network(self, job: Job, resources: Resources) -> Recognizer:
        """Load it; its second batch is the end."""
        one = loading.network(job, resources)
        return Recognizer(one.weights, MortalBackend(one.backend, Death(self.marks / "network", 1)), one.detector)


class Ill(FakeBackend):
    """A network whose process ends whenever it is given anything."""

    def infer(self, images: Pixels) -> Logits:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().infer(images)


def settled(job: Job, resources: Resources) -> Job:
    """Decide for what no machine here would choose by itself."""
    return replace(job, backend="torch", precision="float32")


def finder(job: Job, resources: Resources) -> Recognizer:
    """Return a fake."""
    return Recognizer(WEIGHTS, FakeBackend(), FakeDetector())


def slow(job: Job, resources: Resources) -> Recognizer:
    """Return a fake that takes its time, if it is requested what was decided."""
    assert (job.backend, job.precision) == ("torch", "float32")
    return Recognizer(WEIGHTS, FakeBackend(0.2), FakeDetector())


def ill(job: Job, resources: Resources) -> Recognizer:
    """Return a fake that ends its process."""
    return Recognizer(WEIGHTS, Ill(), FakeDetector())


SLOW, ILL = Loaders(settled, finder, slow), Loaders(settled, finder, ill)


def job(images: Path) -> Job:
    """Return what is asked of a folder: each image is a part, and what runs the network is left open."""
    return Job(
        sources=(str(images),),
        weights=WEIGHTS.id,
        sha256=WEIGHTS.sha256,
        faces="detect",
        max_faces=3,
        part_images=1,
        column="image",
        name_column=None,
    )


def run(asked: Job, out: Path, loaders: Loaders, address: str | None = None) -> list[Progress]:
    """Run it and return what was reported."""
    reports: list[Progress] = []
    predict_at_scale(asked, out, resources=Resources(), address=address, report=reports.append, loaders=loaders)
    return reports


if __name__ == "__main__":
    # By its name, so that other processes find what this module defines.
    from tests.ray import networks

    networks.run(networks.job(Path(sys.argv[1])), Path(sys.argv[2]), networks.SLOW, sys.argv[3])
