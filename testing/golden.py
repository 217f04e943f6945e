"""Golden logits of the shipped weights, and the network inputs that they belong to."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

from manet.backends.base import Logits
from manet.vision.preprocess import Pixels, network_input
from manet.weights.registry import get

GOLDEN = Path(__file__).parents[1] / "tests/golden/shipped_logits.npz"
"""Logits (8, 8) of ``views`` by PyTorch in float32, one thread, and the SHA-256 of the weights that gave them."""


def views() -> Pixels:
    """Return eight network inputs, (8, S, S, 3): the astronaut's face turned, darkened, shifted, made small."""
    portrait = Image.fromarray(skimage.data.astronaut())
    face = portrait.crop((160, 50, 300, 190))
    seen = (
        face,
        face.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        face.rotate(12, Image.Resampling.BILINEAR),
        face.point(lambda value: value // 2),
        face.point(lambda value: 90 + 2 * value // 5),
        portrait.crop((170, 70, 290, 190)),
        portrait.crop((150, 40, 320, 210)),
        face.resize((40, 40)),
    )
    spec = get("ferplus").preprocessing
    return np.stack([network_input(np.asarray(view), spec) for view in seen])


def golden_logits() -> Logits:
    """Return the logits, (8, 8)."""
    with np.load(GOLDEN) as file:
        assert str(file["sha256"]) == get("ferplus").sha256, "the weights changed: make the golden logits again"
        logits: npt.NDArray[np.float32] = file["logits"]
    return logits
