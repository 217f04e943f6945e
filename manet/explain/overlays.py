"""Overlays: a face with what the network went by laid over it."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from manet.explain.result import Explanation, maps_of
from manet.vision.preprocess import Pixels

_FOR, _AGAINST = (225, 45, 30), (30, 95, 225)
_STRONGEST = 0.75
"""Share of the full colour in a blend; the face stays visible below it."""


def draw_evidence(face: Pixels, values: npt.NDArray[np.float32], side: int) -> Image.Image:
    """Return a face with a map over it, RGB, (side, side): red where the map is above zero, blue where it is below.

    The colour is the stronger the farther a value is from zero; the map's farthest one has the full colour.

    Args:
        face: RGB, uint8 (S, S, 3).
        values: the map, (S, S).
        side: of the result, in pixels.
    """
    most = float(np.abs(values).max()) or 1.0
    strength = (_STRONGEST * np.abs(values) / most)[..., None]
    colour = np.where(values[..., None] > 0, _FOR, _AGAINST)
    blended = (face * (1 - strength) + colour * strength + 0.5).astype(np.uint8)
    return Image.fromarray(blended).resize((side, side), Image.Resampling.BICUBIC)


def draw_attention(face: Pixels, gates: npt.NDArray[np.float32], side: int) -> Image.Image:
    """Return a face as attention lets it through, (side, side): bright where the gate is open, dark where shut.

    Args:
        face: RGB, uint8 (S, S, 3).
        gates: 0..1, (S, S).
        side: of the result, in pixels.
    """
    shown = (face * gates[..., None].clip(0, 1) + 0.5).astype(np.uint8)
    return Image.fromarray(shown).resize((side, side), Image.Resampling.BICUBIC)


def draw_explanation(explanation: Explanation, side: int = 320) -> dict[str, Image.Image]:
    """Return a face's three maps, each over the face as the network saw it, and that face itself, by name.

    Args:
        explanation: of the face.
        side: of each image, in pixels.
    """
    face = explanation.pixels
    laid = {name: one.laid_over(explanation.side) for name, one in maps_of(explanation).items()}
    return {
        "face": Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC),
        "local": draw_evidence(face, laid["local"], side),
        "multi_scale": draw_evidence(face, laid["multi_scale"], side),
        "attention": draw_attention(face, laid["attention"], side),
    }
