"""Choice: which engine, number format and device suit a machine, and why."""

import ctypes
import os
from dataclasses import dataclass
from typing import Literal, Self

Engine = Literal["torch", "openvino"]
Precision = Literal["float32", "bf16"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides the choice.

    Attributes:
        cuda: whether NVIDIA's driver finds a device.
        openvino: whether OpenVINO is installed and knows the processor.
        bf16: whether OpenVINO finds bf16 arithmetic in the processor; emulated, it would be slower than float32.
    """

    cuda: bool
    openvino: bool
    bf16: bool

    @classmethod
    def this(cls) -> Self:
        """Look at this machine; PyTorch is not loaded for it."""
        capabilities = _openvino_capabilities()
        return cls(cuda=_cuda_devices() > 0, openvino=bool(capabilities), bf16="BF16" in capabilities)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        engine: what runs the network.
        precision: the number format that it runs in.
        device: where.
        reason: why, in one line.
    """

    engine: Engine
    precision: Precision
    device: Device
    reason: str


def choose(
    machine: Machine,
    *,
    engine: Engine | Literal["auto"] = "auto",
    precision: Precision | Literal["auto"] = "auto",
    device: Device | Literal["auto"] = "auto",
) -> Choice:
    """Return what is asked for, and where nothing is asked for what suits the machine.

    A CUDA device is used where there is one, with PyTorch; else the processor, with OpenVINO where it is installed.

    Raises:
        ValueError: if what is asked for is not there: a CUDA device, OpenVINO, or OpenVINO on CUDA.
    """
    if device == "cuda" and not machine.cuda:
        raise ValueError("device cuda was asked for, but there is none here")
    if engine == "openvino" and not machine.openvino:
        raise ValueError("backend openvino was asked for, but it is not installed: pip install openvino")
    if engine == "openvino" and device == "cuda":
        raise ValueError("backend openvino does not run on cuda")
    on_cuda = device == "cuda" or (device == "auto" and engine != "openvino" and machine.cuda)
    place: Device = "cuda" if on_cuda else "cpu"
    runner: Engine = engine if engine != "auto" else "torch" if on_cuda or not machine.openvino else "openvino"
    fast_bf16 = not on_cuda and runner == "openvino" and machine.bf16
    numbers: Precision = precision if precision != "auto" else "bf16" if fast_bf16 else "float32"
    why_engine = (
        "asked for"
        if engine != "auto"
        else "there is a CUDA device"
        if on_cuda
        else "the fastest on processors"
        if runner == "openvino"
        else "OpenVINO is not installed"
    )
    why_numbers = "asked for" if precision != "auto" else "the processor has it" if fast_bf16 else "exact everywhere"
    return Choice(runner, numbers, place, f"{runner}: {why_engine}; {numbers}: {why_numbers}")


def _openvino_capabilities() -> frozenset[str]:
    """Return what OpenVINO says that the processor can do; empty where it is not installed."""
    try:
        from openvino import Core  # noqa: PLC0415
    except ImportError:
        return frozenset()
    return frozenset(Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _cuda_devices() -> int:
    """Return the CUDA devices that NVIDIA's driver finds, by its own library (CUDA Driver API, cuDeviceGetCount)."""
    name = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
