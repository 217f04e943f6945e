"""One by one: photographs as DeepFace works on them: decode, detect, and each face alone through the network.

    BENCH_PEER=... python -m bench.peers.one_by_one_peer --port PORT

Behind plain FastAPI in a threaded endpoint; the detector is the one that ships with this project.
"""

import argparse
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

from bench.peers.network import PeerNetwork
from manet.pictures import PictureLimits, read_picture
from manet.retinaface import RetinaFaceDetector


def create_app(network: PeerNetwork) -> FastAPI:
    """Return the application around a network."""
    app = FastAPI()
    detector = RetinaFaceDetector()

    @app.post("/predict")
    def predict(image: UploadFile) -> dict[str, Any]:
        picture = read_picture(image.file.read(), limits=PictureLimits())
        answers = []
        for face in detector.detect(picture):
            pixels = network.crop(picture, face)
            [logits] = network.infer(pixels[None])
            answers.append(network.read(logits))
        return {"faces": answers}

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
