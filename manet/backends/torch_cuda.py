"""CudaBackend: the network in PyTorch on an NVIDIA device, one CUDA graph for each batch size.

Launching a network of six hundred small kernels takes the host ten to twenty times as long as the device needs to run
them; a graph is launched as one. BatchNorm is folded. A batch is filled up to the next power of two; its pixels travel
as bytes from page-locked memory and are normalised on the device; the host waits once a batch, for the logits.

Everything that only such a device can run is ``cuda_graph``. A prototype of this design was measured on one
(``bench/results/gpu.json``); this module was not.

Source: CUDA C++ Best Practices Guide, "Asynchronous and Overlapping Transfers with Computation"; PyTorch, "CUDA
semantics", "CUDA Graphs".
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from manet.backends.base import BaseBackend, Logits
from manet.backends.selection import Choice, Precision
from manet.nn.classifier import FusedClassifier, load_classifier
from manet.nn.folding import folded
from manet.vision.preprocess import Pixels
from manet.weights.entry import Weights

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Batch sizes that the network runs in; a larger batch is run in parts."""

_TYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}
_WARM_UP_RUNS = 3
"""Runs before a capture, in which cuDNN chooses its algorithms (PyTorch, "CUDA Graphs")."""


class Captured(NamedTuple):
    """The network made ready for one batch size.

    Attributes:
        images: its input, uint8 (size, S, S, 3).
        run: fills ``logits`` from ``images``.
        logits: its output, float32 (size, classes).
    """

    images: Tensor
    run: Callable[[], Any]
    logits: Tensor


Capture = Callable[[FusedClassifier, Tensor], Captured]
"""From the network and a blank batch to the network made ready for its size."""


class CudaBackend(BaseBackend[FusedClassifier]):
    """PyTorch on a CUDA device as a backend; see ``manet.backends.base.Backend``.

    Args:
        classifier: the network with what belongs to it; it is copied.
        device: a CUDA device.
        precision: the number format that the network runs in.
        reason: why this one was chosen.
        capture: makes the network ready for a batch size.
    """

    name = "torch"
    device = "cuda"

    def __init__(
        self,
        classifier: FusedClassifier,
        device: torch.device,
        precision: Precision,
        reason: str,
        *,
        capture: Capture | None = None,
    ) -> None:
        network = folded(classifier.network).to(_TYPES[precision]).to(memory_format=torch.channels_last)
        ready = FusedClassifier(network, classifier.spec, classifier.fusion_weight).eval().to(device)
        super().__init__(ready, side=classifier.spec.input_size, precision=precision, reason=reason)
        self._device = device
        self._capture = capture or cuda_graph(device)
        self._captured: dict[int, Captured] = {}
        pinned = device.type == "cuda"
        self._images = torch.empty((SIZES[-1], self._side, self._side, 3), dtype=torch.uint8, pin_memory=pinned)
        self._logits_here = torch.empty((SIZES[-1], network.num_classes), pin_memory=pinned)

    def close(self) -> None:
        """Release the network and of the device's memory."""
        super().close()
        self._captured.clear()
        torch.cuda.empty_cache()

    def _warmed(self, _network: FusedClassifier, batch_sizes: Sequence[int]) -> Sequence[int]:
        """Return all sizes up to the largest one requested, the largest first: the others' graphs share its memory."""
        if min(batch_sizes) < 1:
            return batch_sizes  # refused, each with its own words
        largest = _next_size(min(max(batch_sizes), SIZES[-1]))
        return [size for size in reversed(SIZES) if size <= largest]

    def _logits(self, network: FusedClassifier, images: Pixels) -> Logits:
        parts = [images[at : at + SIZES[-1]] for at in range(0, len(images), SIZES[-1])]
        return np.concatenate([self._part(network, part) for part in parts])

    def _part(self, network: FusedClassifier, images: Pixels) -> Logits:
        count, size = len(images), _next_size(len(images))
        with torch.inference_mode():
            if size not in self._captured:
                blank = torch.zeros((size, *images.shape[1:]), dtype=torch.uint8, device=self._device)
                self._captured[size] = self._capture(network, blank)
            ready = self._captured[size]
            staged, answered = self._images[:count], self._logits_here[:count]
            staged.copy_(torch.from_numpy(images))
            ready.images[:count].copy_(staged, non_blocking=True)  # the rest is older images, whose logits are left
            ready.run()
            answered.copy_(ready.logits[:count], non_blocking=True)
            if self._device.type == "cuda":
                torch.cuda.current_stream(self._device).synchronize()
            logits: Logits = answered.numpy().copy()
        return logits


def _next_size(count: int) -> int:
    return next(size for size in SIZES if size >= count)


def cuda_graph(device: torch.device) -> Capture:
    """Return what captures a network as CUDA graphs that share their memory.

    Graphs that share memory must not run at the same time; one thread runs them, one after another.
    """
    pool = torch.cuda.graph_pool_handle()

    def capture(network: FusedClassifier, images: Tensor) -> Captured:
        beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(device))
        # Without TF32: by default convolutions of float32 multiply numbers that have lost 13 bits of their 23.
        with torch.cuda.stream(beside), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            for _ in range(_WARM_UP_RUNS):
                network(images)
            beside.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile, the one that explains answers for example.
            with torch.cuda.graph(graph, pool=pool, stream=beside, capture_error_mode="thread_local"):
                logits = network(images)
        torch.cuda.current_stream(device).wait_stream(beside)
        return Captured(images, graph.replay, logits)

    return capture


def load(weights: Weights, chosen: Choice, *, store: Path | None) -> CudaBackend:
    """Return the backend for these weights; see ``manet.backends.factory.load_backend``."""
    return CudaBackend(load_classifier(weights, store), torch.device("cuda"), chosen.precision, chosen.reason)
