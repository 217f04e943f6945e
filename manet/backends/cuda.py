"""CudaBackend: the network in PyTorch on an NVIDIA device. Nobody has measured it; see the README.

Everything that only such a device can run is in this file. Pictures travel as bytes, from page-locked memory and on a
stream of their own, and are normalised on the device; the host waits once a batch, for the logits.

Source: CUDA C++ Best Practices Guide, "Asynchronous and Overlapping Transfers with Computation"; PyTorch, "CUDA
semantics".
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from manet.backends import Logits, check_images
from manet.backends.choice import Choice, Precision
from manet.backends.torch import FusedClassifier, load_classifier
from manet.preprocess import Pixels
from manet.weights import Weights

_TYPES = {"bf16": torch.bfloat16, "float16": torch.float16}


class CudaBackend:
    """PyTorch on a CUDA device as an engine; see ``manet.backends.Backend``.

    Args:
        classifier: the network with what belongs to it.
        device: a CUDA device.
        precision: the number format of its multiplications; all but float32 are autocast's (PyTorch, torch.amp).
        reason: why this one was chosen.
    """

    name = "torch"
    device = "cuda"

    def __init__(self, classifier: FusedClassifier, device: torch.device, precision: Precision, reason: str) -> None:
        self.reason = reason
        self._precision = precision
        self._side = classifier.spec.input_size
        self._device = device
        self._classifier: FusedClassifier | None = classifier.eval().to(device).to(memory_format=torch.channels_last)
        self._copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._slot = torch.empty(0, dtype=torch.uint8)

    @property
    def precision(self) -> str:
        """The number format that the network runs in."""
        return self._precision

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        """Run one blank batch of each size, the largest first, so that the staging slot is made once.

        Raises:
            ValueError: if a size is below one.
        """
        for size in sorted(batch_sizes, reverse=True):
            self.infer(np.zeros((size, self._side, self._side, 3), dtype=np.uint8))

    def infer(self, images: Pixels) -> Logits:
        """Return the fused logits of a batch, float32 (N, classes).

        Args:
            images: uint8 (N, S, S, 3), RGB.

        Raises:
            ValueError: if the batch is empty or has another type or shape.
            RuntimeError: if the engine was closed, or the device fails.
        """
        if self._classifier is None:
            raise RuntimeError("the engine was closed")
        check_images(images, self._side)
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
            logits: Logits = self._classifier(batch).float().cpu().numpy()  # the only wait
        return logits

    def close(self) -> None:
        """Let go of the network and of the device's memory."""
        self._classifier = None
        self._slot = torch.empty(0, dtype=torch.uint8)
        torch.cuda.empty_cache()


def load(weights: Weights, chosen: Choice, *, store: Path | None) -> CudaBackend:
    """Return the engine for these weights; see ``manet.backends.load_backend``."""
    return CudaBackend(load_classifier(weights, store), torch.device("cuda"), chosen.precision, chosen.reason)
