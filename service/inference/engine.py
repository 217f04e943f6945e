"""Engine: the recognizer that the settings name, and its network as the scheduler's engine."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from manet.backends.base import Backend, Logits
from manet.backends.factory import choice_for, load_backend
from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.backends.selection import Choice
from manet.recognizer import Recognizer
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import RetinaFaceDetector
from manet.weights.entry import Weights
from manet.weights.registry import resolve
from service.batching.health import EngineHealth
from service.batching.policy import BatchPolicy
from service.batching.scheduler import BatchObserver, Scheduler
from service.clock import Clock
from service.inference.batched_faces import BatchedFaceNetwork
from service.settings import Settings


class NetworkEngine:
    """A backend whose answers are checked, so that a batch which comes back wrong is a batch that failed.

    Args:
        backend: the network.
        classes: how many logits a face gets.
    """

    def __init__(self, backend: Backend, classes: int) -> None:
        self._backend = backend
        self._classes = classes

    def warmup(self, batch_sizes: Sequence[int]) -> Sequence[int]:
        """Run blank batches that prepare for these sizes; return the sizes that ran."""
        return self._backend.warmup(batch_sizes)

    def infer(self, images: Pixels) -> Logits:
        """Return the logits, (N, classes), of a batch, (N, S, S, 3).

        Raises:
            ValueError: if the backend answers with another shape, or with a number that is not finite.
        """
        logits = self._backend.infer(images)
        expected = (len(images), self._classes)
        if logits.shape != expected:
            raise ValueError(f"the backend answered with logits of shape {logits.shape} instead of {expected}")
        if not np.isfinite(logits).all():
            raise ValueError("the backend answered with logits that are not finite")
        return logits

    def close(self) -> None:
        """Let go of the network."""
        self._backend.close()


def load_recognizer(settings: Settings) -> Recognizer:
    """Return the network and the detector, loaded, the detector warm.

    Args:
        settings: name the weights, the engine and where it runs, and for how many threads.

    Raises:
        ManetError: if the weights are unknown, not installed or not what they should be.
        ValueError: if the engine, precision or device requested is not to be had.
        OSError: if a file cannot be read.
    """
    load = _load_device_detector if detects_on_device(settings) else load_detector
    with ThreadPoolExecutor(1) as pool:
        detector = pool.submit(load, settings)
        weights, network = load_weights(settings), load_network(settings)
        return Recognizer(weights, network, detector.result())


def detects_on_device(settings: Settings) -> bool:
    """Return whether faces are found where the network runs, which is so on CUDA.

    Args:
        settings: as for ``load_recognizer``.

    Raises:
        ManetError, ValueError: as ``load_network``.
    """
    return _choice(settings).device == "cuda"


def load_faces(settings: Settings) -> BatchedFaceNetwork:
    """Return the detector's network in PyTorch where the other one runs, warm.

    Args:
        settings: as for ``load_recognizer``.

    Raises:
        ManetError, ValueError, OSError: as ``load_network``.
        RuntimeError: if it fails.
    """
    # Imported late, so that a process which detects with OpenVINO loads no PyTorch.
    from manet.backends.torch_face_network import load  # noqa: PLC0415

    network = BatchedFaceNetwork(load(_choice(settings)), timeout=settings.engine_timeout)
    RetinaFaceDetector(network).warmup()
    return network


def _load_device_detector(settings: Settings) -> RetinaFaceDetector:
    return RetinaFaceDetector(load_faces(settings), small_faces=settings.small_faces)


def _choice(settings: Settings) -> Choice:
    return choice_for(
        load_weights(settings),
        backend=settings.backend,
        precision=settings.precision,
        device=settings.device,
        store=settings.weights_dir,
    )


def load_detector(settings: Settings) -> RetinaFaceDetector:
    """Return the detector with its network in OpenVINO, warm.

    Args:
        settings: say for how many threads.
    """
    detector = RetinaFaceDetector(OpenVinoFaceNetwork(threads=settings.workers), small_faces=settings.small_faces)
    detector.warmup()
    return detector


def load_weights(settings: Settings) -> Weights:
    """Return the entry of the weights.

    Args:
        settings: name the weights.

    Raises:
        ManetError: if the weights are unknown or not installed.
    """
    return resolve(settings.weights, settings.weights_dir)


def load_network(settings: Settings) -> Backend:
    """Return the network, loaded.

    Args:
        settings: as for ``load_recognizer``.

    Raises:
        ManetError: if the weights are unknown, not installed or not what they should be.
        ValueError: if the engine, precision or device requested is not to be had.
        OSError: if a file cannot be read.
    """
    return load_backend(
        load_weights(settings),
        backend=settings.backend,
        precision=settings.precision,
        device=settings.device,
        store=settings.weights_dir,
        threads=settings.threads,
    )


def make_scheduler(
    settings: Settings,
    weights: Weights,
    backend: Backend,
    *,
    clock: Clock,
    observer: BatchObserver,
    reload: Callable[[], Backend] | None,
) -> Scheduler:
    """Return the scheduler of a network, to be started.

    Args:
        settings: the bounds of batches and of the queue.
        weights: of the network.
        backend: runs it.
        clock: the time.
        observer: is notified of every batch.
        reload: loads the network once more, in place of one that was lost; None where that is the scheduler's end.
    """
    classes = len(weights.classes)
    return Scheduler(
        NetworkEngine(backend, classes),
        side=weights.preprocessing.input_size,
        policy=BatchPolicy(settings.max_batch_size, settings.batch_timeout),
        capacity=settings.max_queued_faces,
        clock=clock,
        observer=observer,
        health=EngineHealth(timeout=settings.engine_timeout),
        rebuild=None if reload is None else lambda: NetworkEngine(reload(), classes),
    )
