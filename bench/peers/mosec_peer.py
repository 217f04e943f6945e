"""mosec: a worker that decodes and a worker that runs batches, behind its own HTTP server in Rust.

    BENCH_PEER=... python -m bench.peers.mosec_peer --port PORT

The body is the bare JPEG, the cheapest that mosec's documentation shows.
"""

from typing import Any

import numpy as np
from mosec import Server, Worker

from bench.peers.network import BATCH, PeerNetwork
from manet.vision.preprocess import Pixels

MAX_WAIT_MS = 10
"""Milliseconds for which mosec waits for a batch to fill."""


class Preprocess(Worker):  # type: ignore[misc]  # an extra, so mypy sees no types
    """From a JPEG to network input."""

    def __init__(self) -> None:
        super().__init__()
        self._decode = PeerNetwork.decoder()

    def deserialize(self, data: bytes) -> bytes:
        """Return the body as it came."""
        return data

    def forward(self, data: bytes) -> Pixels:
        """Return one image as network input."""
        return self._decode(data)


class Inference(Worker):  # type: ignore[misc]  # an extra, so mypy sees no types
    """From a batch of network inputs to answers."""

    def __init__(self) -> None:
        super().__init__()
        self._network = PeerNetwork.from_environment()

    def forward(self, data: list[Pixels]) -> list[dict[str, Any]]:
        """Run a batch."""
        logits = self._network.infer(np.stack(data))
        return [{"faces": [self._network.read(row)]} for row in logits]


def main() -> None:
    """Serve until SIGTERM; mosec reads the port from the command line itself."""
    server = Server()
    server.append_worker(Preprocess, num=1)
    server.append_worker(Inference, num=1, max_batch_size=BATCH, max_wait_time=MAX_WAIT_MS)
    server.run()


if __name__ == "__main__":
    main()
