"""Plain FastAPI: the network in a threaded endpoint, as FastAPI's documentation uploads a file.

    BENCH_PEER=... python -m bench.peers.plain_fastapi_peer --port PORT

One request, one forward pass, in a thread of Starlette's pool of forty.
"""

import argparse
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

from bench.peers.network import PeerNetwork


def create_app(network: PeerNetwork) -> FastAPI:
    """Return the application around a network."""
    app = FastAPI()

    @app.post("/predict")
    def predict(image: UploadFile) -> dict[str, Any]:
        pixels = network.decode(image.file.read())
        [logits] = network.infer(pixels[None])
        return {"faces": [network.read(logits)]}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    uvicorn.run(create_app(PeerNetwork.from_environment()), host="127.0.0.1", port=asked.port)


if __name__ == "__main__":
    main()
