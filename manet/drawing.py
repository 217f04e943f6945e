"""Drawing: a picture with its faces boxed and named, and a face with what the network went by laid over it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from manet.explanation import Explanation, maps_of
from manet.preprocess import Pixels
from manet.recognizer import RecognizedFace

_INK, _GROUND = "white", (24, 90, 219)
_FOR, _AGAINST = (225, 45, 30), (30, 95, 225)
_STRONGEST = 0.75
"""Share of the full colour in a blend; the face stays visible below it."""


def draw_faces(image: Pixels, faces: Sequence[RecognizedFace], tracks: Sequence[int] | None = None) -> Image.Image:
    """Return a copy of the picture, RGB, with boxes and names; line and letters grow with the picture.

    A face without a box, from a picture taken as a whole, gets the picture's own edge.

    Args:
        image: RGB, uint8 (height, width, 3).
        faces: what to mark.
        tracks: a number of each face that is written before its name, for moving pictures.
    """
    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 250))
    font = ImageFont.load_default(size=max(12, round(min(picture.size) / 28)))
    numbers = [""] * len(faces) if tracks is None else [f"{track}: " for track in tracks]
    for face, number in zip(faces, numbers, strict=True):
        left, top, right, bottom = _edges(face, picture)
        canvas.rectangle((left, top, right, bottom), outline=_GROUND, width=line)
        label = f"{number}{face.expression} {face.confidence:.0%}"
        _, _, width, height = canvas.textbbox((0, 0), label, font=font)
        # Above the box where there is room, else inside it; never over the picture's edge where that can be helped.
        x = max(0.0, min(left, picture.width - width - 2 * line))
        y = top - height - 2 * line if top >= height + 2 * line else top
        canvas.rectangle((x, y, x + width + 2 * line, y + height + 2 * line), fill=_GROUND)
        canvas.text((x + line, y + line), label, fill=_INK, font=font)
    return picture


def _edges(face: RecognizedFace, picture: Image.Image) -> tuple[float, float, float, float]:
    if face.face is None:
        return 0, 0, picture.width - 1, picture.height - 1
    box = face.face.box
    return box.x, box.y, box.x + box.width, box.y + box.height


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
        side: of each picture, in pixels.
    """
    face = explanation.pixels
    laid = {name: one.laid_over(explanation.side) for name, one in maps_of(explanation).items()}
    return {
        "face": Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC),
        "local": draw_evidence(face, laid["local"], side),
        "multi_scale": draw_evidence(face, laid["multi_scale"], side),
        "attention": draw_attention(face, laid["attention"], side),
    }
