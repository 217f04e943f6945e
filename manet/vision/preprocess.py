"""The only code that turns a face crop into network input.

A crop is an image of one face; network input is a uint8 RGB array of a fixed side. Scaling to floats and
normalisation happen next to the network (see ``manet.backends.factory``), so that a batch travels as bytes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
"""An RGB image, (height, width, 3), values 0..255."""

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How one set of weights wants its faces.

    Attributes:
        input_size: side of the square network input, in pixels, at least 32.
        colour: ``grey`` replaces each pixel by its luma (ITU-R BT.601) on all three channels; ``rgb`` leaves it.
        detail_size: side, in pixels, to which a crop is reduced before it is brought to ``input_size``, so that
            it holds no finer detail than the training images did; None leaves the detail.
        mean: subtracted per channel after scaling to 0..1.
        std: divided by per channel after that.
    """

    input_size: int
    colour: Literal["grey", "rgb"]
    detail_size: int | None = None
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)


def network_input(crop: Pixels | Image.Image, spec: Preprocessing) -> Pixels:
    """Return a face crop as network input, (input_size, input_size, 3), values 0..255.

    Args:
        crop: one face, (height, width, 3) or Pillow's image of mode RGB or L, any size of at least 1 x 1; a crop
            that is not square is stretched.
        spec: what the weights want.

    Resampling is Pillow's antialiased bilinear filter in every case.
    """
    image = crop if isinstance(crop, Image.Image) else Image.fromarray(crop)
    if spec.colour == "grey" and image.mode != "L":
        image = image.convert("L")
    if spec.detail_size is not None:
        image = _resize(image, spec.detail_size)
    return np.asarray(_resize(image, spec.input_size).convert("RGB"))


def _resize(image: Image.Image, side: int) -> Image.Image:
    if image.size == (side, side):
        return image
    return image.resize((side, side), Image.Resampling.BILINEAR)
