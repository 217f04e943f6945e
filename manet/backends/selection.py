"""Choice: which backend, number format and device suit a machine, and why."""

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

BackendKind = Literal["torch", "openvino"]
Precision = Literal["float32", "bf16", "float16", "int8"]
Device = Literal["cpu", "cuda"]

Int8State = Literal["absent", "unmeasured", "close"]
"""What is known of weights in int8 arithmetic: no calibration, one whose loss no one measured or that loses too much
(``manet.weights.entry.MOST_LOST``), or one that stays close to float32."""

_RUNS: Mapping[tuple[BackendKind, Device], tuple[Precision, ...]] = MappingProxyType(
    {
        ("openvino", "cpu"): ("float32", "bf16", "int8"),
        ("torch", "cpu"): ("float32", "bf16"),
        ("torch", "cuda"): ("float32", "bf16", "float16"),
    }
)
"""The number formats that each backend runs in, by device."""

_VOLTA = 7
"""Major compute capability of the first NVIDIA devices that multiply float16 matrices in one instruction (CUDA C++
Programming Guide, "Compute Capability 7.x"). float16 is as fast as bf16 there and four times closer to float32."""

_VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Flags of processors that multiply int8 and add up in one instruction, as Linux names them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides the choice.

    Attributes:
        cuda: major compute capability of the first CUDA device that NVIDIA's driver finds; 0 where there is none.
        openvino: whether OpenVINO knows the processor.
        bf16: whether OpenVINO finds bf16 arithmetic in the processor; emulated, it would be slower than float32.
        torch: whether PyTorch is installed.
        vnni: whether the processor has instructions for int8 networks; without them int8 gains little.
        saturates: whether it is known to be an x86 processor without them, whose int8 sums overflow: OpenVINO adds up
            two products in 16 bits there. On FER+ Valid that costs 13 points (73.5 % in the place of 86.1).
    """

    cuda: int
    openvino: bool
    bf16: bool
    vnni: bool
    saturates: bool = False
    torch: bool = True

    @classmethod
    def this(cls) -> Self:
        """Look at this machine; PyTorch is not loaded for it."""
        capabilities, flags = _openvino_capabilities(), _cpu_flags()
        vnni = not _VNNI.isdisjoint(flags)
        return cls(
            cuda=_cuda_capability(),
            openvino=bool(capabilities),
            bf16="BF16" in capabilities,
            vnni=vnni,
            saturates=bool(flags) and not vnni,
            torch=find_spec("torch") is not None,
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        backend: what runs the network.
        precision: the number format that it runs in.
        device: where.
        reason: why, in one line.
    """

    backend: BackendKind
    precision: Precision
    device: Device
    reason: str


def choose(
    machine: Machine,
    *,
    backend: BackendKind | Literal["auto"] = "auto",
    precision: Precision | Literal["auto"] = "auto",
    device: Device | Literal["auto"] = "auto",
    int8: Int8State = "absent",
) -> Choice:
    """Return what is requested, and where nothing is requested what suits the machine and the weights.

    A CUDA device is used where there is one and PyTorch is installed; else the processor, with OpenVINO where it can.

    Raises:
        ValueError: if what is requested is not there: a CUDA device, OpenVINO, a calibration, or a number format that
            the backend does not run in, or the processor gets wrong.
    """
    if device == "cuda" and not machine.cuda:
        raise ValueError("device cuda was requested, but there is none here")
    if (backend == "torch" or device == "cuda") and not machine.torch:
        wanted = "backend torch" if backend == "torch" else "device cuda"
        raise ValueError(f"{wanted} was requested, but PyTorch is not installed: pip install 'manet[gpu]'")
    if backend == "openvino" and not machine.openvino:
        raise ValueError("backend openvino was requested, but it does not know this processor")
    if backend == "openvino" and device == "cuda":
        raise ValueError("backend openvino does not run on cuda")
    on_cuda = device == "cuda" or (device == "auto" and backend != "openvino" and machine.cuda > 0 and machine.torch)
    place: Device = "cuda" if on_cuda else "cpu"
    runner, why_backend = _backend(machine, backend, on_cuda)
    numbers, why_numbers = (precision, "requested") if precision != "auto" else _precision(machine, runner, place, int8)
    if numbers not in _RUNS[runner, place]:
        possible = ", ".join(_RUNS[runner, place])
        raise ValueError(f"backend {runner} on {place} does not run in {numbers}; it does in {possible}")
    if numbers == "int8" and int8 == "absent":
        raise ValueError("int8 was requested, but these weights have no calibration: manet-train quantize makes one")
    if numbers == "int8" and machine.saturates:
        raise ValueError("int8 was requested, but this processor has no VNNI: sums of int8 products overflow in it")
    return Choice(runner, numbers, place, f"{runner}: {why_backend}; {numbers}: {why_numbers}")


def _backend(machine: Machine, backend: BackendKind | Literal["auto"], on_cuda: bool) -> tuple[BackendKind, str]:
    if backend != "auto":
        return backend, "requested"
    if on_cuda:
        return "torch", "there is a CUDA device"
    if not machine.openvino:
        return "torch", "OpenVINO does not know this processor"
    if machine.cuda and not machine.torch:
        return "openvino", "there is a CUDA device, but no PyTorch: pip install 'manet[gpu]'"
    return "openvino", "the fastest on processors"


def _precision(machine: Machine, backend: BackendKind, device: Device, int8: Int8State) -> tuple[Precision, str]:
    if device == "cuda":
        return ("float16", "the device has it") if machine.cuda >= _VOLTA else ("float32", "exact everywhere")
    if backend == "openvino" and machine.vnni and int8 == "close":
        return "int8", "the processor has VNNI, and these weights lose next to nothing"
    if backend == "openvino" and machine.bf16:
        return "bf16", "the processor has it"
    return "float32", "exact everywhere"


def _openvino_capabilities() -> frozenset[str]:
    """Return what OpenVINO says that the processor can do."""
    # Imported late, for it takes a third of a second.
    from manet.backends.openvino.runtime import core  # noqa: PLC0415

    return frozenset(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the flags of the first x86 processor, as Linux names them; none elsewhere."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def _cuda_capability() -> int:
    """Return the first CUDA device's major compute capability, by NVIDIA's own driver library; 0 without a device.

    Source: CUDA Driver API, cuDeviceGetCount and cuDeviceGetAttribute; 75 is
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    number = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(number)) != 0 or number.value < 1:
        return 0
    if driver.cuDeviceGetAttribute(ctypes.byref(number), 75, 0) != 0:
        return 0
    return number.value
