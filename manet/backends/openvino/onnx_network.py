"""OnnxNetwork: a network out of an ONNX file in OpenVINO, on a CPU, for many threads that each bring one input."""

from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from manet.backends.openvino.runtime import core

Floats = npt.NDArray[np.float32]


class OnnxNetwork:
    """A network that is ready to answer, in float32; safe to call from several threads.

    Args:
        path: the ONNX file.
        threads: inputs that are computed with at once, at least 1, each on a CPU thread of its own. One more waits
            until one of them is done.

    Raises:
        RuntimeError: if OpenVINO cannot read the file.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",
        }
        network = core().compile_model(core().read_model(path), "CPU", options)
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(threads):
            self._idle.put(network.create_infer_request())

    def outputs(self, tensor: npt.NDArray[Any], names: Sequence[str]) -> list[Floats]:
        """Return the outputs of those names, for the network's only input.

        Raises:
            RuntimeError: if OpenVINO fails.
        """
        request = self._idle.get()
        try:
            found = request.infer([tensor], share_inputs=True)
            return [found[name] for name in names]
        finally:
            self._idle.put(request)
