"""Loading: what an actor of an offline run has in its process, and on which machine it may be."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import NoReturn

from manet.backends.base import Device, Logits
from manet.backends.factory import choice_for, load_backend
from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.errors import OfflineRunError
from manet.offline.plan import Job
from manet.recognizer import Recognizer
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import RetinaFaceDetector
from manet.weights.registry import resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the actors reserve.

    Attributes:
        find_cpus: CPUs of one that reads images and finds faces.
        network_cpus: CPUs of one that runs the network, and, rounded up, its threads.
        network_gpus: GPUs of one that runs the network.
        device: where the network runs.
        store: folder of imported weights, on every machine; None means the default one.
    """

    find_cpus: float = 0.6
    network_cpus: float = 0.4
    network_gpus: float = 0.0
    device: Device = "auto"
    store: Path | None = None


class _Elsewhere:
    """The network of a process that only finds faces."""

    name = precision = device = reason = "elsewhere"

    def warmup(self, batch_sizes: object) -> NoReturn:
        raise AssertionError("the network is in another process")

    def infer(self, images: Pixels) -> Logits:
        raise AssertionError("the network is in another process")

    def close(self) -> None:
        """There is nothing to let go of."""


def settled(job: Job, resources: Resources) -> Job:
    """Return the job with the backend and the number format that suit this machine where it leaves them open.

    Raises:
        ManetError: if the weights are not there, or what is requested is not to be had.
    """
    weights = resolve(job.weights, resources.store)
    try:
        chosen = choice_for(
            weights, backend=job.backend, precision=job.precision, device=resources.device, store=resources.store
        )
    except ValueError as error:
        raise OfflineRunError(str(error)) from error
    return replace(job, backend=chosen.backend, precision=chosen.precision)


def finder(job: Job, resources: Resources) -> Recognizer:
    """Return what finds faces; it has no network."""
    return Recognizer(
        resolve(job.weights, resources.store), _Elsewhere(), RetinaFaceDetector(OpenVinoFaceNetwork(threads=1))
    )


def network(job: Job, resources: Resources) -> Recognizer:
    """Return what runs the network.

    Raises:
        ManetError: if the weights are not there, or not those that the run began with.
        ValueError: if the backend or the number format of the run is not to be had on this machine.
    """
    weights = resolve(job.weights, resources.store)
    if weights.sha256 != job.sha256:
        raise OfflineRunError(f"the weights {job.weights} on this machine are not those that the run began with")
    backend = load_backend(
        weights,
        backend=job.backend,
        precision=job.precision,
        device=resources.device,
        threads=ceil(resources.network_cpus),
        store=resources.store,
    )
    return Recognizer(weights, backend, RetinaFaceDetector(OpenVinoFaceNetwork(threads=1)))


@dataclass(frozen=True, slots=True)
class Loaders:
    """What loads each of them, in its own process.

    Attributes:
        settled: decides once what the job leaves open.
        finder: of faces.
        network: the network.
    """

    settled: Callable[[Job, Resources], Job] = settled
    finder: Callable[[Job, Resources], Recognizer] = finder
    network: Callable[[Job, Resources], Recognizer] = network


REAL = Loaders()
