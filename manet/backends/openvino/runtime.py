"""Core: OpenVINO's runtime, one in a process and for as long as the process lives.

OpenVINO gives the thread that loads its CPU plugin another stack for signals, and gives back in the end the one that it
found. Of two cores that end in the order in which they began, the second one gives back what the first one has freed:
the next signal, such as the SIGTERM that ends a service, then kills the process with SIGSEGV (seen with 2026.4). A core
that never ends frees nothing.

OpenVINO's binding prepares itself for NumPy when it first meets an array. Of two threads that are first at the same
time one waits, with the interpreter's lock in its hand, for the other, which needs that lock: both for ever (seen with
2026.4). So the core is made together with the first array.
"""

from functools import cache

import numpy as np
import openvino


@cache
def core() -> openvino.Core:
    """Return the process's only core; it is made when it is first requested."""
    first = openvino.Tensor(np.zeros(1, np.float32))
    np.asarray(first.data)
    return openvino.Core()
