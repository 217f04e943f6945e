"""Runtime: what a process that serves asks of the interpreter and the C library."""

import ctypes
import gc
import sys

SWITCH = 0.0005
"""Seconds after which the interpreter goes from one thread to another that requests it. A batch that is done asks, and
the processors idle until the next one begins: with Python's 5 ms, for 7 % of the time under full load. At a start, the
thread that builds the network asks after each large array, beside one that imports: with 5 ms it waits for 0.5 s."""

LARGE = 8 * 1024 * 1024
"""Bytes from which on the C library takes a block from the system by itself, and gives it back when it is free. Left to
itself, it raises this to 32 MiB when the first large image is freed, and keeps what it got for those after it."""

_M_MMAP_THRESHOLD = -3
"""Its number in glibc's ``malloc.h``."""


def tune_threads() -> None:
    """Let threads take turns often; for the first step of a process."""
    sys.setswitchinterval(SWITCH)


def tune_memory() -> None:
    """Make the process ready to serve, when all that lasts as long as it does was made."""
    gc.collect()
    gc.freeze()  # the collector need not look through all that again and again
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):  # which musl has not
            library.mallopt(_M_MMAP_THRESHOLD, LARGE)
            library.malloc_trim(0)  # what loading took and freed, 20 to 30 MB
