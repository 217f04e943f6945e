"""Rows: one function for each figure; what is compared is measured in one run, in turns, on one machine."""

from collections.abc import Callable, Mapping
from typing import Any

from bench.rows import hosted, operation, peers
from bench.workbench import Bench

ROWS: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    row.__name__: row
    for row in (
        hosted.served_over_bare_224,
        hosted.cpu_outside_network,
        hosted.one_client,
        hosted.null_backend,
        peers.crops,
        peers.photographs,
        peers.curves,
        operation.overload,
        operation.start,
        operation.memory,
    )
}
"""Every row by its name, in the order in which they are measured."""
