"""CPUs: how many the process may really use."""

import os
from math import ceil
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")

_MOST_READERS = 8
"""More threads than this would look at images faster than any network here answers them."""


def available_cpus(cgroup: Path = CGROUP) -> int:
    """Return the CPUs that the process may use, at least 1: its affinity, and the quota of its control group.

    A container with a quota of two CPUs on a machine of sixty-four still sees sixty-four; as many threads would wait
    for each other.

    Args:
        cgroup: the mount point of the control groups, version 2 (``cpu.max``, in the kernel's cgroup-v2 document) or
            1 (``cpu/cpu.cfs_quota_us``).
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return cpus if quota is None else max(1, min(cpus, ceil(quota)))


def image_threads() -> int:
    """Return how many threads should decode images and find faces: as many as there are CPUs, up to eight."""
    return min(available_cpus(), _MOST_READERS)


def _quota(cgroup: Path) -> float | None:
    """Return the CPUs that the quota is worth, or None where there is none."""
    unified = _numbers(cgroup / "cpu.max")
    if unified is not None:
        limit, period = unified
        return limit / period
    limit_file, period_file = cgroup / "cpu/cpu.cfs_quota_us", cgroup / "cpu/cpu.cfs_period_us"
    limits, periods = _numbers(limit_file), _numbers(period_file)
    if limits is None or periods is None or limits[0] <= 0:  # -1 is no limit
        return None
    return limits[0] / periods[0]


def _numbers(path: Path) -> list[int] | None:
    """Return the whole numbers in a file; None where it is absent or says ``max``."""
    try:
        words = path.read_text().split()
    except OSError:
        return None
    return [int(word) for word in words] if words and "max" not in words else None
