"""Memory: how much a process has used at most."""

import sys

import torch


def peak_memory(device: torch.device) -> str:
    """Return the most memory that was used so far, on the device or in this process, as words."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB at most so far"
    if sys.platform == "win32":
        return "not known on this platform"
    # Imported here: Windows has no such module.
    import resource  # noqa: PLC0415

    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB at most so far"
