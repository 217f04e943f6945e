"""Backend: the one thing that turns a batch of network inputs into logits, and what all backends do in the same way.

Backends differ in speed, not in meaning: whatever runs behind the protocol takes the bytes that
``manet.vision.preprocess.network_input`` made and answers with the fused logits.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from manet.backends.selection import Precision
from manet.vision.preprocess import Pixels

Device = Literal["auto", "cpu", "cuda"]
BackendName = Literal["auto", "torch", "openvino"]
PrecisionName = Literal["auto", "float32", "bf16", "float16", "int8"]

Logits = npt.NDArray[np.float32]
"""Fused logits, (N, classes) for a batch or (classes,) for one face, before temperature and softmax."""


class Backend(Protocol):
    """A backend with the network loaded and ready to answer."""

    @property
    def name(self) -> str:
        """The backend, such as ``torch``."""

    @property
    def precision(self) -> str:
        """The number format that the network runs in: ``float32``, ``bf16``, ``float16`` or ``int8``."""

    @property
    def device(self) -> str:
        """Where it runs, such as ``cpu`` or ``cuda``."""

    @property
    def reason(self) -> str:
        """Why this backend runs, and in this number format, in one line for people."""

    def warmup(self, batch_sizes: Sequence[int]) -> Sequence[int]:
        """Run blank batches, so that the first real one of each size pays for little or no set-up; return their sizes.

        Raises:
            ValueError: if a size is below one.
        """

    def infer(self, images: Pixels) -> Logits:
        """Return the fused logits of a batch, float32 (N, classes).

        Args:
            images: uint8 (N, S, S, 3), RGB, as ``network_input`` made them; S is the weights' input size.

        Raises:
            ValueError: if the batch is empty or has another type or shape.
        """

    def close(self) -> None:
        """Let go of the network's memory. A backend that was closed answers no more."""


def check_images(images: Pixels, side: int) -> None:
    """Make sure that a batch is what the network takes.

    Raises:
        ValueError: if it is empty or has another type or shape.
    """
    expected = (side, side, 3)
    if images.dtype != np.uint8 or images.shape[1:] != expected or not len(images):
        raise ValueError(f"expected uint8 (N, {', '.join(map(str, expected))}), found {images.dtype} {images.shape}")


Network = TypeVar("Network")
"""What runs, as the backend has it."""


class BaseBackend(ABC, Generic[Network]):
    """The common part of backends; see ``manet.backends.base.Backend`` for what they promise.

    Args:
        network: loaded.
        side: S of the network's input, in pixels.
        precision: the number format that the network runs in.
        reason: why this backend was chosen.
    """

    name: ClassVar[str]
    device: ClassVar[str]

    def __init__(self, network: Network, *, side: int, precision: Precision, reason: str) -> None:
        self.reason = reason
        self._side = side
        self._precision = precision
        self._network: Network | None = network

    @property
    def precision(self) -> str:
        """The number format that the network runs in."""
        return self._precision

    def warmup(self, batch_sizes: Sequence[int]) -> Sequence[int]:
        """Run blank batches of these sizes, or of those that prepare for them; return the sizes that ran.

        Raises:
            ValueError: if a size is below one.
            RuntimeError: if the backend was closed, or fails.
        """
        sizes = self._warmed(self._open, batch_sizes)
        for size in sizes:
            self.infer(np.zeros((size, self._side, self._side, 3), dtype=np.uint8))
        return sizes

    def infer(self, images: Pixels) -> Logits:
        """Return the fused logits of a batch, float32 (N, classes).

        Args:
            images: uint8 (N, S, S, 3), RGB.

        Raises:
            ValueError: if the batch is empty or has another type or shape.
            RuntimeError: if the backend was closed, or fails.
        """
        network = self._open
        check_images(images, self._side)
        return self._logits(network, images)

    def close(self) -> None:
        """Let go of the network's memory."""
        self._network = None

    @property
    def _open(self) -> Network:
        if self._network is None:
            raise RuntimeError("the backend was closed")
        return self._network

    def _warmed(self, _network: Network, batch_sizes: Sequence[int]) -> Sequence[int]:
        """Return the sizes of the blank batches."""
        return batch_sizes

    @abstractmethod
    def _logits(self, network: Network, images: Pixels) -> Logits:
        """Return the fused logits of a batch that was found to be right, float32 (N, classes)."""
