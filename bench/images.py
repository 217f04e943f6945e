"""Images: the uploads, drawn from the portrait that scikit-image ships (NASA's astronaut, public domain)."""

import io

import skimage.data
from PIL import Image

CROP_SIDE = 224
PHOTOGRAPH_SIZE = (1280, 853)
PHOTOGRAPH_FACES = 4

_FACE = (160, 50, 300, 190)
"""A square around the portrait's face."""

_PLACES = ((40, 60, 460), (520, 20, 320), (860, 120, 400), (430, 420, 420))
"""Left, top and side of the portrait, each time it is pasted into the photograph."""


def crops(count: int = 8) -> list[bytes]:
    """Return JPEGs of 224 x 224, each the face cut a little differently."""
    portrait = Image.fromarray(skimage.data.astronaut())
    left, upper, right, lower = _FACE
    shifts = range(0, 2 * count, 2)
    boxes = [(left + shift, upper + shift, right + shift, lower + shift) for shift in shifts]
    return [_jpeg(portrait.crop(box).resize((CROP_SIDE, CROP_SIDE))) for box in boxes]


def photographs() -> list[bytes]:
    """Return a JPEG of 1280 x 853 with four faces, upright and mirrored."""
    portrait = Image.fromarray(skimage.data.astronaut())
    whole = Image.new("RGB", PHOTOGRAPH_SIZE, (96, 110, 124))
    for left, top, side in _PLACES:
        whole.paste(portrait.resize((side, side)), (left, top))
    return [_jpeg(whole), _jpeg(whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT))]


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
