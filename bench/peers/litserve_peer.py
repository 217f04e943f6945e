"""LitServe: one worker with dynamic batching.

BENCH_PEER=... python -m bench.peers.litserve_peer --port PORT
"""

import argparse
from typing import Any

import litserve
import numpy as np
from fastapi import Request

from bench.peers.network import BATCH, PeerNetwork
from manet.vision.preprocess import Pixels

BATCH_TIMEOUT = 0.01
"""Seconds for which LitServe waits for a batch to fill."""


class ExpressionAPI(litserve.LitAPI):  # type: ignore[misc]  # an extra, so mypy sees no types
    """LitServe's steps, in the worker's process."""

    def setup(self, device: str) -> None:
        """Load the network."""
        self.network = PeerNetwork.from_environment()

    def decode_request(self, request: Request) -> Pixels:
        """Return one image as network input."""
        return self.network.decode(request["image"].file.read())

    def batch(self, inputs: list[Pixels]) -> Pixels:
        """Return the inputs as one batch."""
        return np.stack(inputs)

    def predict(self, x: Pixels) -> "np.ndarray[Any, Any]":
        """Run the batch."""
        return self.network.infer(x)

    def unbatch(self, output: "np.ndarray[Any, Any]") -> list["np.ndarray[Any, Any]"]:
        """Return the logits of each image."""
        return list(output)

    def encode_response(self, output: "np.ndarray[Any, Any]") -> dict[str, Any]:
        """Return one answer."""
        return {"faces": [self.network.read(output)]}


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    api = ExpressionAPI(max_batch_size=BATCH, batch_timeout=BATCH_TIMEOUT)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=asked.port, generate_client_file=False)


if __name__ == "__main__":
    main()
