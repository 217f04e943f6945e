"""Backend: the one thing that turns a batch of network inputs into logits.

Engines differ in speed, not in meaning: whatever runs behind the protocol takes the bytes that
``manet.preprocess.network_input`` made and answers with the fused logits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from manet.preprocess import Pixels
from manet.weights import Weights

Device = Literal["auto", "cpu", "cuda"]

Logits = npt.NDArray[np.float32]
"""Fused logits, (N, classes) for a batch or (classes,) for one face, before temperature and softmax."""


class Backend(Protocol):
    """An engine with the network loaded and ready to answer."""

    @property
    def name(self) -> str:
        """The engine, such as ``torch``."""

    @property
    def precision(self) -> str:
        """The number format that the network runs in, such as ``float32``."""

    @property
    def device(self) -> str:
        """Where it runs, such as ``cpu`` or ``cuda``."""

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        """Run one blank batch of each size, so that the first real one pays for no set-up.

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
        """Let go of the network's memory. An engine that was closed answers no more."""


def load_backend(
    weights: Weights, *, device: Device = "auto", threads: int | None = None, store: Path | None = None
) -> Backend:
    """Return the engine for these weights on this device.

    Args:
        weights: an entry of the registry; its file is found by ``manet.weights.locate``.
        device: ``auto`` takes a CUDA device where there is one, else the CPU.
        threads: CPU threads for one batch; None leaves the engine's own choice.
        store: folder of weights that the user imported; None means the default one.

    Raises:
        WeightsNotInstalledError: if the weights' file is not on this machine.
        CheckpointError: if the file is not what the registry says.
        ValueError: if ``cuda`` is asked for where there is none, or ``threads`` is below one.
    """
    # Imported late, so that a process which serves with another engine never loads PyTorch.
    from manet.backends.torch import load  # noqa: PLC0415

    return load(weights, device=device, threads=threads, store=store)
