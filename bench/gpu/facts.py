"""Facts: the device, what the service would choose on this machine, and the speed of arithmetic and memory."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch

from bench.gpu.setting import Row, Setting
from manet.backends.factory import choice_for
from manet.weights.registry import get

_WARM_UP, _REPEATS = 3, 10


def facts(setting: Setting) -> Iterator[Row]:
    """Yield what the machine is and how fast its device is, in bf16 operations and bytes read or written."""
    yield {"what": "device", **_device(setting.device)}
    yield {"what": "choice of the service", **asdict(choice_for(get("ferplus")))}
    device, size = torch.device(setting.device), setting.scale.matrix
    one, other = (torch.ones(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    seconds = _seconds(lambda: one @ other, device)
    yield {"what": "product of bf16 matrices", "size": size, "tflop_per_second": round(2e-12 * size**3 / seconds, 3)}
    source = torch.ones(setting.scale.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _seconds(lambda: target.copy_(source), device)
    yield {"what": "copy in memory", "bytes": len(source), "tb_per_second": round(2e-12 * len(source) / seconds, 3)}


def _device(device: str) -> Row:
    found: Row = {"torch": torch.__version__, "device": device}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_mib": properties.total_memory >> 20,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return found


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the mean time of a call, the device's work included."""
    for _ in range(_WARM_UP):
        call()
    wait(device)
    began = time.perf_counter()
    for _ in range(_REPEATS):
        call()
    wait(device)
    return (time.perf_counter() - began) / _REPEATS


def wait(device: torch.device) -> None:
    """Wait until a CUDA device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
