"""Plain FastAPI: one request, one forward pass, in a threaded endpoint.

    BENCH_PEER=... python -m bench.peers.plain_fastapi_peer --port PORT

Tuned or not, by ``passes`` of the settings; see ``bench.peers.network``.
"""

from typing import Any

from bench.peers.network import PeerNetwork
from bench.peers.threaded import serve


def main() -> None:
    """Serve until SIGTERM."""
    network = PeerNetwork.from_environment()

    def answer(image: bytes) -> list[dict[str, Any]]:
        [logits] = network.infer(network.decode(image)[None])
        return [network.read(logits)]

    serve(answer)


if __name__ == "__main__":
    main()
