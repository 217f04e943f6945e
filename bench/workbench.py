"""Workbench: where and for how long rows are measured, and the loads that all of them use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import sizes
from bench.load import Samples
from bench.server import Server, send_load
from bench.summary import raw, summary

CLIENTS = 64
"""Of a saturated server: two full batches of ours, half of the images that it admits."""

FORCED = 224
"""The input size, in pixels, of the authors' weights, at which the network weighs most."""

_LONGEST = 60.0
"""Seconds of load that a slow server gets, at most."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and for how long rows are measured.

    Attributes:
        folder: for weights and logs; kept from run to run.
        seconds: of each load.
        soak_seconds: of the load under which memory is watched.
    """

    folder: Path
    seconds: float
    soak_seconds: float

    def weights(self, size: int) -> str:
        """Return the weights at an input size, by id or file."""
        return sizes.weights_of(size, self.folder)

    def log(self, name: str) -> Path:
        """Return the file for what a program writes."""
        return self.folder / "logs" / f"{name.replace(', ', '_')}.log"

    def spent(self, server: Server, before: float, samples: Samples) -> dict[str, Any]:
        """Return the summary of a load, with what the server spent on it since it had spent ``before``."""
        facts = {
            "server_cpu_seconds": round(server.cpu_seconds() - before, 2),
            "server_resident_mb": round(server.resident_mb(), 1),
        }
        return {**summary(samples), **facts}

    def load(self, server: Server, uploads: list[bytes], **how: Any) -> tuple[Samples, dict[str, Any]]:
        """Return the samples of one load and their summary, with what the server spent on it."""
        before = server.cpu_seconds()
        samples = send_load(server, uploads, self.folder, **{"seconds": self.seconds, **how})
        return samples, self.spent(server, before, samples)

    def saturated(self, server: Server, uploads: list[bytes], clients: int = CLIENTS) -> dict[str, Any]:
        """Return what a closed loop of many clients saw, after a short one that warms the server up.

        A server so slow that a client hardly gets its second answer in the usual time gets more of it.
        """
        latency = self.warm(server, uploads, clients)["latency_ms"]
        several = 3 * latency["p50"] / 1e3 if latency else self.seconds
        seconds = max(self.seconds, min(several, _LONGEST))
        samples, found = self.load(server, uploads, clients=clients, seconds=seconds)
        return {"clients": clients, **found, "samples": raw(samples)}

    def warm(self, server: Server, uploads: list[bytes], clients: int) -> dict[str, Any]:
        """Send a short load, and return its summary."""
        return self.load(server, uploads, clients=clients, seconds=min(3.0, self.seconds))[1]
