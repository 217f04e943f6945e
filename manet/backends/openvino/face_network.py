"""OpenVinoFaceNetwork: RetinaFace's network in OpenVINO, on a CPU, for many threads that each bring one canvas."""

from pathlib import Path
from queue import SimpleQueue

import numpy as np
import openvino
from openvino.preprocess import PrePostProcessor

from manet.backends.openvino.runtime import core
from manet.cpus import image_threads
from manet.files import verify_sha256
from manet.vision.face_network import MEAN, NETWORK_FILE, NETWORK_SHA256, Candidates
from manet.vision.preprocess import Pixels


class OpenVinoFaceNetwork:
    """The network in float32; see ``manet.vision.face_network.FaceNetwork``.

    Args:
        threads: canvases that are computed with at once, each on a CPU thread of its own; one more waits for one of
            them. None means as many as ``manet.cpus.image_threads``.
        path: the ONNX file.

    Raises:
        ChecksumError: if the file is not the one that this code was written for.
        OSError: if it cannot be read.
        ValueError: if ``threads`` is below one.
    """

    def __init__(self, *, threads: int | None = None, path: Path = NETWORK_FILE) -> None:
        self.threads = image_threads() if threads is None else threads
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        verify_sha256(path, NETWORK_SHA256)
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": str(self.threads),
            "INFERENCE_NUM_THREADS": str(self.threads),
            "ENABLE_CPU_PINNING": "NO",
        }
        network = core().compile_model(_reading_pixels(core().read_model(path)), "CPU", options)
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(self.threads):
            self._idle.put(network.create_infer_request())

    def candidates(self, canvas: Pixels, least: float) -> Candidates:
        """Return what may be a face on a canvas, (height, width, 3).

        Raises:
            RuntimeError: if OpenVINO fails.
        """
        request = self._idle.get()
        try:
            found = request.infer([canvas[None]], share_inputs=True, share_outputs=True)
            scores = found["conf"][0, :, 1]
            places = np.flatnonzero(scores >= least)  # what they take is a copy of what the request writes to again
            return Candidates(places, scores[places], found["loc"][0][places], found["landmarks"][0][places]).best()
        finally:
            self._idle.put(request)


def _reading_pixels(model: openvino.Model) -> openvino.Model:
    """Return the network with a batch of RGB images as input, uint8 (1, height, width, 3)."""
    made = PrePostProcessor(model)
    given = made.input()
    given.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC")).set_spatial_dynamic_shape()
    given.model().set_layout(openvino.Layout("NCHW"))
    given.preprocess().convert_element_type(openvino.Type.f32).mean(list(map(float, MEAN))).reverse_channels()
    return made.build()
