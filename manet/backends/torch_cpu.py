"""TorchBackend: the network in PyTorch, on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from manet.backends import Logits
from manet.backends.choice import Choice, Precision
from manet.backends.engine import Engine
from manet.checkpoint import load_model
from manet.model import MANet, fuse
from manet.preprocess import Pixels, Preprocessing
from manet.tensors import normalised
from manet.weights import Weights, locate


class FusedClassifier(nn.Module):
    """From pictures as bytes to fused logits: normalisation, both branches, their fusion.

    Args:
        network: in eval mode.
        spec: the weights' preprocessing.
        fusion_weight: the local branch's share, 0..1.
    """

    def __init__(self, network: MANet, spec: Preprocessing, fusion_weight: float) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.fusion_weight = fusion_weight

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 logits (N, classes) of uint8 images (N, S, S, 3)."""
        x = normalised(images.permute(0, 3, 1, 2), self.spec)  # (N, 3, S, S)
        return fuse(self.network(x), self.fusion_weight)


class TorchBackend(Engine[FusedClassifier]):
    """PyTorch as an engine; see ``manet.backends.Backend``.

    Args:
        classifier: the network with what belongs to it.
        precision: the number format of its multiplications; bf16 is autocast's (PyTorch, torch.amp).
        reason: why this one was chosen.
    """

    name = "torch"
    device = "cpu"

    def __init__(
        self, classifier: FusedClassifier, precision: Precision = "float32", reason: str = "asked for"
    ) -> None:
        ready = classifier.eval().to(memory_format=torch.channels_last)
        super().__init__(ready, side=classifier.spec.input_size, precision=precision, reason=reason)

    def _logits(self, network: FusedClassifier, images: Pixels) -> Logits:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._precision == "bf16"):
            logits: Logits = network(torch.from_numpy(images)).float().numpy()
        return logits


def load(weights: Weights, chosen: Choice, *, threads: int, store: Path | None) -> TorchBackend:
    """Return the engine for these weights; see ``manet.backends.load_backend``."""
    with _single_thread(threads):
        return TorchBackend(load_classifier(weights, store), chosen.precision, chosen.reason)


def load_classifier(weights: Weights, store: Path | None) -> FusedClassifier:
    """Return the network with the parameters of the weights' file, and what belongs to it."""
    network = load_model(
        locate(weights, store), num_classes=len(weights.classes), wiring=weights.wiring, sha256=weights.sha256
    )
    return FusedClassifier(network, weights.preprocessing, weights.fusion_weight)


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
