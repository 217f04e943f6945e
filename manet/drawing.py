"""Drawing: an image with its faces boxed and named."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from manet.recognizer import RecognizedFace
from manet.vision.preprocess import Pixels

_INK, _GROUND = "white", (24, 90, 219)


def draw_faces(image: Pixels, faces: Sequence[RecognizedFace], tracks: Sequence[int] | None = None) -> Image.Image:
    """Return a copy of the image, RGB, with boxes and names; line and letters grow with the image.

    A face without a box, from an image taken as a whole, gets the image's own edge.

    Args:
        image: RGB, uint8 (height, width, 3).
        faces: what to mark.
        tracks: a number of each face that is written before its name, for videos.
    """
    drawn = Image.fromarray(image)
    canvas = ImageDraw.Draw(drawn)
    line = max(2, round(min(drawn.size) / 250))
    font = ImageFont.load_default(size=max(12, round(min(drawn.size) / 28)))
    numbers = [""] * len(faces) if tracks is None else [f"{track}: " for track in tracks]
    for face, number in zip(faces, numbers, strict=True):
        left, top, right, bottom = _edges(face, drawn)
        canvas.rectangle((left, top, right, bottom), outline=_GROUND, width=line)
        label = f"{number}{face.expression} {face.confidence:.0%}"
        _, _, width, height = canvas.textbbox((0, 0), label, font=font)
        # Above the box where there is room, else inside it; never over the image's edge where that can be helped.
        x = max(0.0, min(left, drawn.width - width - 2 * line))
        y = top - height - 2 * line if top >= height + 2 * line else top
        canvas.rectangle((x, y, x + width + 2 * line, y + height + 2 * line), fill=_GROUND)
        canvas.text((x + line, y + line), label, fill=_INK, font=font)
    return drawn


def _edges(face: RecognizedFace, image: Image.Image) -> tuple[float, float, float, float]:
    if face.face is None:
        return 0, 0, image.width - 1, image.height - 1
    box = face.face.box
    return box.x, box.y, box.x + box.width, box.y + box.height
