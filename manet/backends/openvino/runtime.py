"""Core: OpenVINO's runtime, one in a process and for as long as the process lives.

OpenVINO gives the thread that loads its CPU plugin another stack for signals, and gives back in the end the one that it
found. Of two cores that end in the order in which they began, the second one gives back what the first one has freed:
the next signal, such as the SIGTERM that ends a service, then kills the process with SIGSEGV (seen with 2026.4). A core
that never ends frees nothing.
"""

from functools import cache

import openvino


@cache
def core() -> openvino.Core:
    """Return the process's only core; it is made when it is first requested."""
    return openvino.Core()
