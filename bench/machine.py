"""Machine: what the figures were measured on, and whether it was quiet."""

import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from training.provenance import commit

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
_PACKAGES = ("fastapi", "litserve", "mosec", "numpy", "openvino", "pillow", "torch", "uvicorn", "uvloop")

LOUD = 0.05
"""The share of the processors that others, or the host, may take before a row says that the machine was not quiet."""


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, and the versions of what serves on them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", "").split())
    return {
        "processor": facts.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def heading() -> dict[str, Any]:
    """Return what stands above every result."""
    return {"measured": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "machine": machine()}


def quietness(seconds: float = 1.0) -> dict[str, Any]:
    """Return the load average, and the share of the processors that others and the host took just now.

    Call it while nothing of the benchmark's own runs.
    """
    before = psutil.cpu_times()
    time.sleep(seconds)
    after = psutil.cpu_times()
    total = sum(after) - sum(before)
    idle = after.idle + after.iowait - before.idle - before.iowait
    busy = (total - idle) / total if total else 0.0
    stolen = (after.steal - before.steal) / total if total else 0.0
    return {
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "busy": round(busy, 3),
        "stolen": round(stolen, 3),
        "quiet": busy < LOUD,
    }
