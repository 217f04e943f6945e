"""Factory: the backend for some weights, by default the one that suits this machine."""

from pathlib import Path

from manet.backends.base import Backend, BackendName, Device, PrecisionName
from manet.backends.selection import Choice, Int8State, Machine, choose
from manet.cpus import available_cpus
from manet.weights.entry import Weights
from manet.weights.registry import locate_calibration


def choice_for(
    weights: Weights,
    *,
    backend: BackendName = "auto",
    precision: PrecisionName = "auto",
    device: Device = "auto",
    store: Path | None = None,
) -> Choice:
    """Return what ``load_backend`` would load on this machine, without loading it.

    Raises:
        CheckpointError: if the weights' calibration is not what the registry says.
        ValueError: if what is requested is not there.
    """
    calibration = locate_calibration(weights, store)
    int8: Int8State = "absent" if calibration is None else "close" if weights.int8_is_close else "unmeasured"
    return choose(Machine.this(), backend=backend, precision=precision, device=device, int8=int8)


def load_backend(
    weights: Weights,
    *,
    backend: BackendName = "auto",
    precision: PrecisionName = "auto",
    device: Device = "auto",
    threads: int | None = None,
    store: Path | None = None,
) -> Backend:
    """Return a backend for these weights; by default the one that suits this machine (``manet.backends.selection``).

    Args:
        weights: an entry of the registry; its file is found by ``manet.weights.registry.locate``.
        backend: what runs the network.
        precision: the number format that it runs in.
        device: ``auto`` takes a CUDA device where there is one, else the CPU.
        threads: CPU threads for one batch; None means as many as the process may use.
        store: folder of weights that the user imported; None means the default one.

    Raises:
        WeightsNotInstalledError: if the weights' file is not on this machine.
        CheckpointError: if a file is not what the registry says.
        ValueError: if what is requested is not there, or ``threads`` is below one.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    chosen = choice_for(weights, backend=backend, precision=precision, device=device, store=store)
    threads = available_cpus() if threads is None else threads
    # Imported late, so that a process which serves with one backend never loads another.
    if chosen.backend == "openvino":
        from manet.backends.openvino.backend import load as load_openvino  # noqa: PLC0415

        return load_openvino(weights, chosen, threads=threads, store=store)
    try:
        from manet.backends import torch_cpu, torch_cuda  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ValueError(f"{chosen.reason}; but PyTorch is not installed: pip install 'manet[gpu]'") from error
    if chosen.device == "cuda":
        return torch_cuda.load(weights, chosen, store=store)
    return torch_cpu.load(weights, chosen, threads=threads, store=store)
