"""CudaBackend: the network in PyTorch on an NVIDIA device. No one has measured it; see the README.

Everything that only such a device can run is in this file. Images travel as bytes, from page-locked memory and on a
stream of their own, and are normalised on the device; the host waits once a batch, for the logits.

Source: CUDA C++ Best Practices Guide, "Asynchronous and Overlapping Transfers with Computation"; PyTorch, "CUDA
semantics".
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from manet.backends.base import BaseBackend, Logits
from manet.backends.selection import Choice, Precision
from manet.nn.classifier import FusedClassifier, load_classifier
from manet.vision.preprocess import Pixels
from manet.weights.entry import Weights

_TYPES = {"bf16": torch.bfloat16, "float16": torch.float16}


class CudaBackend(BaseBackend[FusedClassifier]):
    """PyTorch on a CUDA device as a backend; see ``manet.backends.base.Backend``.

    Args:
        classifier: the network with what belongs to it.
        device: a CUDA device.
        precision: the number format of its multiplications; all but float32 are autocast's (PyTorch, torch.amp).
        reason: why this one was chosen.
    """

    name = "torch"
    device = "cuda"

    def __init__(self, classifier: FusedClassifier, device: torch.device, precision: Precision, reason: str) -> None:
        ready = classifier.eval().to(device).to(memory_format=torch.channels_last)
        super().__init__(ready, side=classifier.spec.input_size, precision=precision, reason=reason)
        self._device = device
        self._copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._slot = torch.empty(0, dtype=torch.uint8)

    def close(self) -> None:
        """Let go of the network and of the device's memory."""
        super().close()
        self._slot = torch.empty(0, dtype=torch.uint8)
        torch.cuda.empty_cache()

    def _warmed(self, _network: FusedClassifier, batch_sizes: Sequence[int]) -> Iterable[int]:
        return sorted(batch_sizes, reverse=True)  # the largest first, so that the staging slot is made once

    def _logits(self, network: FusedClassifier, images: Pixels) -> Logits:
        if self._slot.numel() < images.size:
            self._slot = torch.empty(images.size, dtype=torch.uint8, pin_memory=True)
        staged = self._slot[: images.size].view(images.shape)
        staged.copy_(torch.from_numpy(images))
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copying):
            batch = staged.to(self._device, non_blocking=True)
        computing.wait_stream(self._copying)
        batch.record_stream(computing)  # or its memory would be free as soon as the copying stream is done with it
        kind, narrow = _TYPES.get(self._precision, torch.float32), self._precision in _TYPES
        with torch.inference_mode(), torch.autocast("cuda", kind, enabled=narrow):
            logits: Logits = network(batch).float().cpu().numpy()  # the only wait
        return logits


def load(weights: Weights, chosen: Choice, *, store: Path | None) -> CudaBackend:
    """Return the backend for these weights; see ``manet.backends.factory.load_backend``."""
    return CudaBackend(load_classifier(weights, store), torch.device("cuda"), chosen.precision, chosen.reason)
