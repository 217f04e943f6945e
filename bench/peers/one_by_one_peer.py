"""One by one: photographs as DeepFace works on them: decode, detect, and each face alone through the network.

    BENCH_PEER=... python -m bench.peers.one_by_one_peer --port PORT

Behind plain FastAPI in a threaded endpoint; the detector is the one that ships with this project.
"""

from typing import Any

from bench.peers.network import PeerNetwork
from bench.peers.threaded import serve
from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.vision.images import ImageLimits, read_image
from manet.vision.retinaface import RetinaFaceDetector


def main() -> None:
    """Serve until SIGTERM."""
    network, detector = PeerNetwork.from_environment(), RetinaFaceDetector(OpenVinoFaceNetwork())

    def answer(data: bytes) -> list[dict[str, Any]]:
        image = read_image(data, limits=ImageLimits())
        crops = (network.crop(image, face) for face in detector.detect(image))
        return [network.read(network.infer(crop[None])[0]) for crop in crops]

    serve(answer)


if __name__ == "__main__":
    main()
