"""TorchBackend: the network in PyTorch, on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from manet.backends.base import BaseBackend, Logits
from manet.backends.selection import Choice, Precision
from manet.nn.classifier import FusedClassifier, load_classifier
from manet.vision.preprocess import Pixels
from manet.weights.entry import Weights


class TorchBackend(BaseBackend[FusedClassifier]):
    """PyTorch as a backend; see ``manet.backends.base.Backend``.

    Args:
        classifier: the network with what belongs to it.
        precision: the number format of its multiplications; bf16 is autocast's (PyTorch, torch.amp).
        reason: why this one was chosen.
    """

    name = "torch"
    device = "cpu"

    def __init__(
        self, classifier: FusedClassifier, precision: Precision = "float32", reason: str = "requested"
    ) -> None:
        ready = classifier.eval().to(memory_format=torch.channels_last)
        super().__init__(ready, side=classifier.spec.input_size, precision=precision, reason=reason)

    def _logits(self, network: FusedClassifier, images: Pixels) -> Logits:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._precision == "bf16"):
            logits: Logits = network(torch.from_numpy(images)).numpy()
        return logits


def load(weights: Weights, chosen: Choice, *, threads: int, store: Path | None) -> TorchBackend:
    """Return the backend for these weights; see ``manet.backends.factory.load_backend``."""
    with _single_thread(threads):
        return TorchBackend(load_classifier(weights, store), chosen.precision, chosen.reason)


@contextmanager
def _single_thread(afterwards: int) -> Iterator[None]:
    """Keep PyTorch to the calling thread while inside, and give it ``afterwards`` threads from then on.

    OpenMP keeps a pool of threads for each thread that ever worked in parallel. A second pool, in the thread that
    serves, would outnumber the CPUs; OpenMP's threads then sleep between any two operations instead of waiting
    awake, and a batch takes half as long again. So loading must not make the first one.
    """
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(afterwards)
