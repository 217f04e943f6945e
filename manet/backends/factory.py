"""Backend: the one thing that turns a batch of network inputs into logits.

Engines differ in speed, not in meaning: whatever runs behind the protocol takes the bytes that
``manet.preprocess.network_input`` made and answers with the fused logits.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from manet.backends.choice import Choice, Int8State, Machine, choose
from manet.cpus import available_cpus
from manet.preprocess import Pixels
from manet.weights import Weights, locate_calibration

# ``import openvino`` would report its use to its makers, over the network and from a forked process, unless it finds no
# telemetry package. It is imported by modules of this package only, so this comes first.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

Device = Literal["auto", "cpu", "cuda"]
EngineName = Literal["auto", "torch", "openvino"]
PrecisionName = Literal["auto", "float32", "bf16", "float16", "int8"]

Logits = npt.NDArray[np.float32]
"""Fused logits, (N, classes) for a batch or (classes,) for one face, before temperature and softmax."""


class Backend(Protocol):
    """An engine with the network loaded and ready to answer."""

    @property
    def name(self) -> str:
        """The engine, such as ``torch``."""

    @property
    def precision(self) -> str:
        """The number format that the network runs in: ``float32``, ``bf16``, ``float16`` or ``int8``."""

    @property
    def device(self) -> str:
        """Where it runs, such as ``cpu`` or ``cuda``."""

    @property
    def reason(self) -> str:
        """Why this engine runs, and in this number format, in one line for people."""

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


def check_images(images: Pixels, side: int) -> None:
    """Make sure that a batch is what the network takes.

    Raises:
        ValueError: if it is empty or has another type or shape.
    """
    expected = (side, side, 3)
    if images.dtype != np.uint8 or images.shape[1:] != expected or not len(images):
        raise ValueError(f"expected uint8 (N, {', '.join(map(str, expected))}), found {images.dtype} {images.shape}")


def choice_for(
    weights: Weights,
    *,
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    device: Device = "auto",
    store: Path | None = None,
) -> Choice:
    """Return what ``load_backend`` would load on this machine, without loading it.

    Raises:
        CheckpointError: if the weights' calibration is not what the registry says.
        ValueError: if what is asked for is not there.
    """
    calibration = locate_calibration(weights, store)
    int8: Int8State = "absent" if calibration is None else "close" if weights.int8_is_close else "unmeasured"
    return choose(Machine.this(), engine=engine, precision=precision, device=device, int8=int8)


def load_backend(
    weights: Weights,
    *,
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    device: Device = "auto",
    threads: int | None = None,
    store: Path | None = None,
    cache: Path | None = None,
) -> Backend:
    """Return an engine for these weights; by default the one that suits this machine (``manet.backends.choice``).

    Args:
        weights: an entry of the registry; its file is found by ``manet.weights.locate``.
        engine: what runs the network.
        precision: the number format that it runs in.
        device: ``auto`` takes a CUDA device where there is one, else the CPU.
        threads: CPU threads for one batch; None means as many as the process may use.
        store: folder of weights that the user imported; None means the default one.
        cache: folder of exported networks, for OpenVINO; None means the platform's place for such files.

    Raises:
        WeightsNotInstalledError: if the weights' file is not on this machine.
        CheckpointError: if a file is not what the registry says.
        ExportError: if OpenVINO is to serve a network that nobody exported, and PyTorch is not installed.
        ValueError: if what is asked for is not there, or ``threads`` is below one.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    chosen = choice_for(weights, engine=engine, precision=precision, device=device, store=store)
    threads = available_cpus() if threads is None else threads
    # Imported late, so that a process which serves with one engine never loads another.
    if chosen.engine == "openvino":
        from manet.backends import openvino  # noqa: PLC0415

        return openvino.load(weights, chosen, threads=threads, store=store, cache=cache)
    try:
        from manet.backends import cuda, torch  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ValueError(f"{chosen.reason}; but PyTorch is not installed: pip install torch") from error
    if chosen.device == "cuda":
        return cuda.load(weights, chosen, store=store)
    return torch.load(weights, chosen, threads=threads, store=store)
