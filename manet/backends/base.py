"""Engine: what all engines do in the same way."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

import numpy as np

from manet.backends import Logits, check_images
from manet.backends.choice import Precision
from manet.preprocess import Pixels

Network = TypeVar("Network")
"""What runs, as the engine has it."""


class Engine(ABC, Generic[Network]):
    """The common part of engines; see ``manet.backends.Backend`` for what they promise.

    Args:
        network: loaded.
        side: S of the network's input, in pixels.
        precision: the number format that the network runs in.
        reason: why this engine was chosen.
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

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        """Run one blank batch of each size, and of whatever other sizes batches up to them will run in.

        Raises:
            ValueError: if a size is below one.
            RuntimeError: if the engine was closed, or fails.
        """
        for size in self._warmed(self._open, batch_sizes):
            self.infer(np.zeros((size, self._side, self._side, 3), dtype=np.uint8))

    def infer(self, images: Pixels) -> Logits:
        """Return the fused logits of a batch, float32 (N, classes).

        Args:
            images: uint8 (N, S, S, 3), RGB.

        Raises:
            ValueError: if the batch is empty or has another type or shape.
            RuntimeError: if the engine was closed, or fails.
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
            raise RuntimeError("the engine was closed")
        return self._network

    def _warmed(self, _network: Network, batch_sizes: Sequence[int]) -> Iterable[int]:
        """Return the sizes of the blank batches."""
        return batch_sizes

    @abstractmethod
    def _logits(self, network: Network, images: Pixels) -> Logits:
        """Return the fused logits of a batch that was found to be right, float32 (N, classes)."""
