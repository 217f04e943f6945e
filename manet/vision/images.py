"""Image: bytes in, upright RGB pixels out, under limits that hold before the work is done."""

import io
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Self

import numpy as np
import pi_heif
from PIL import AvifImagePlugin, ExifTags, Image, PngImagePlugin, TiffImagePlugin

from manet.errors import ImageCorruptError, ImageError, ImageFormatError, ImageTooLargeError
from manet.vision import avif, heic, jpeg, tiff
from manet.vision.formats import UNSUPPORTED, ImageFormat, format_of
from manet.vision.preprocess import Pixels, Preprocessing, network_input

_MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten. Each costs a pass over all pixels and can be written in a few dozen bytes."""

_MAX_JPEG_SEGMENTS = 1000
"""Before the first scan. Metadata as large as a whole upload has 300. Pillow puts those of EXIF together one by one,
and copies what it has each time."""

_MAX_TIFF_PARTS = 100_000
"""Strips or tiles: Pillow lists them all, in ten microseconds and 250 bytes each, however few the pixels are."""

_MAX_PNG_TEXT = 16 * 1024 * 1024
"""Bytes that one compressed text or colour profile of a PNG may unpack to: programs that make or edit images keep
their history there. Pillow reads 1 MiB, and refuses the image for more."""

_PROGRESSIVE_BYTES = 10
"""Bytes a pixel that reading a progressive JPEG takes at most: its decoder holds the coefficients of all of it."""

LEAST_SIDE = 1440
"""Pixels of the longer side that a reduced image has at least: as many as the detector looks at, part by part, when it
searches for small faces."""

_DCT_SHARES = (8, 4, 2, 1)
"""What a JPEG's sides can be divided by in decoding it (Pillow, ``Image.draft``), the largest first."""

_ROWS = 256
"""Rows that are made RGB at once: of a whole image each copy on the way would take three or four bytes a pixel."""

_MAX_PNG_PROFILES = 4
"""A PNG has one; more are counted, for the letters of its name may stand among pixels, too. Each is unpacked by itself,
and Pillow bounds the sum for texts only."""

_NEW_SUBFILE_TYPE = 254
"""The TIFF tag whose lowest bit says that an image is a smaller version of another one in the file (TIFF 6.0)."""

_TRANSPOSE = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
"""What undoes each value of the EXIF orientation tag (Exif 3.0, section 4.6.5.1.6); 1 is upright already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """The largest image that is read.

    Attributes:
        max_bytes: of the file.
        max_pixels: width times height, taken from the header before any pixel is decoded.
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 40_000_000


def image_bytes(path: Path, limits: ImageLimits) -> bytes:
    """Return a file's bytes; of one that is too large as many as ``read_image`` needs to refuse it: one too many.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(limits.max_bytes + 1)


Reserve = Callable[[int], object]
"""Called with the bytes that reading an image takes at most, before any pixel is decoded; it may wait, and may raise
TimeoutError."""


def read_image(data: bytes, *, limits: ImageLimits, reserve: Reserve | None = None) -> Pixels:
    """Return the first frame of an image as it is meant to be seen: upright, RGB, uint8 (height, width, 3).

    EXIF orientation is applied, transparency is laid over white, 16-bit grey is scaled to 8 bits, and palettes, grey
    and CMYK become RGB.

    Args:
        data: a whole file in one of the formats of ``manet.vision.formats``; a JPEG may lack its end marker. Its first
            bytes decide the format; no name is looked at.
        limits: the largest image to read.
        reserve: see ``Reserve``.

    Raises:
        ImageTooLargeError: too many bytes, pixels or bytes of text, or more JPEG scans than any camera or program
            writes.
        ImageFormatError: none of the formats.
        ImageCorruptError: empty, truncated or corrupt.
        TimeoutError: if ``reserve`` waited too long.
    """
    with _opened(data, limits, reserve) as image:
        return _as_meant(image)


@dataclass(frozen=True, slots=True)
class ScaledImage:
    """An image as large as looking for faces in it needs.

    Attributes:
        pixels: upright, RGB, uint8, (height, width, 3) divided by 1, 2, 4 or 8 and rounded up.
        width: of the whole upright image, in pixels; ``height`` likewise.
        height: see ``width``.
        whole: returns all of its pixels, uint8 (height, width, 3).
    """

    pixels: Pixels
    width: int
    height: int
    whole: Callable[[], Pixels]

    @classmethod
    def of(cls, pixels: Pixels) -> Self:
        """Return an image of which all pixels are there."""
        return cls(pixels, pixels.shape[1], pixels.shape[0], lambda: pixels)

    @property
    def reduced(self) -> bool:
        """Whether ``pixels`` are not all."""
        return self.pixels.shape[:2] != (self.height, self.width)


def read_scaled(data: bytes, *, limits: ImageLimits, reserve: Reserve | None = None) -> ScaledImage:
    """Return an image as ``read_image`` does, but a large JPEG reduced, to ``LEAST_SIDE`` pixels or more.

    Its decoder leaves out what makes up the difference: a quarter of 10.7 megapixels takes a third of the time.

    Args:
        data: see ``read_image``; likewise the limits and what is raised.
        limits: see ``data``.
        reserve: see ``Reserve``; for all pixels, since all may be needed.
    """
    with _opened(data, limits, reserve) as image:
        width, height = image.size
        share = next(share for share in _DCT_SHARES if max(width, height) // share >= LEAST_SIDE or share == 1)
        image.draft(image.mode, (width // share, height // share))
        if image.size == (width, height):
            return ScaledImage.of(_as_meant(image))
        lies = image.size
        pixels = _as_meant(image)
    if pixels.shape[:2] != lies[::-1]:  # it was turned upright
        width, height = height, width
    return ScaledImage(pixels, width, height, partial(read_image, data, limits=limits))


def _as_meant(image: Image.Image) -> Pixels:
    """Return an image, which may be closed, as it is meant to be seen: upright, RGB, uint8 (height, width, 3)."""
    upright = _upright(image)
    if upright is not image:
        image.close()
    return _pixels(upright)


def _pixels(upright: Image.Image) -> Pixels:
    """Return an image, which is closed, as RGB, uint8 (height, width, 3)."""
    pixels = np.empty((upright.height, upright.width, 3), np.uint8)
    for top in range(0, upright.height, _ROWS):
        rows = upright.crop((0, top, upright.width, min(top + _ROWS, upright.height)))
        pixels[top : top + _ROWS] = np.asarray(_to_rgb(rows))
    upright.close()
    return pixels


@dataclass(frozen=True, slots=True)
class Crop:
    """An image that was taken as the crop of one face.

    Attributes:
        width: of the upright image, in pixels; ``height`` likewise.
        height: see ``width``.
        pixels: the network's input, uint8 (S, S, 3).
    """

    width: int
    height: int
    pixels: Pixels


def read_crop(data: bytes, spec: Preprocessing, *, limits: ImageLimits, reserve: Reserve | None = None) -> Crop:
    """Return the first frame of an image as network input, sooner than by way of ``read_image``.

    For weights that see grey the colours of a JPEG are not decoded at all, and grey is not copied on the way. The input
    is the same but for one rounding less, and for colours so strong that RGB would have clipped them
    (``bench/results/decoding.json``).

    Args:
        data: see ``read_image``.
        spec: what the weights want.
        limits: the largest image to read.
        reserve: see ``Reserve``.

    Raises:
        ImageError, TimeoutError: as ``read_image`` does.
    """
    with _opened(data, limits, reserve) as image:
        if spec.colour == "grey":
            image.draft("L", None)
        upright = _upright(image)
        if upright.mode == "L" and not upright.has_transparency_data:
            return Crop(*upright.size, network_input(upright, spec))
        if upright is not image:
            image.close()
        pixels = _pixels(upright)
    return Crop(pixels.shape[1], pixels.shape[0], network_input(pixels, spec))


@contextmanager
def _opened(data: bytes, limits: ImageLimits, reserve: Reserve | None) -> Iterator[Image.Image]:
    """Give the image with its header read, and make one kind of error of all that comes of reading the rest."""
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(f"the image has {len(data)} bytes; at most {limits.max_bytes} are read")
    known = format_of(data)
    _check_parts(data, known)
    unended = known.name == "JPEG" and jpeg.lacks_end(data)
    try:
        _bound_decoders()
        whole = data + jpeg.END if unended else avif.as_still(data) if known.name == "AVIF" else data
        with Image.open(io.BytesIO(whole), formats=[known.codec]) as image:
            _check_size(image, limits)
            _check_first_frame(image)
            _check_samples(image)
            if known.name in _DECODED_PIXELS:
                _check_decoded(*_DECODED_PIXELS[known.name](data), limits)
            if unended and not jpeg.has_all_pixels(data):
                raise ImageCorruptError("the JPEG image is truncated or corrupt")
            if reserve is not None:
                each = _PROGRESSIVE_BYTES if image.info.get("progressive") else known.bytes_a_pixel
                reserve(image.width * image.height * each)
            yield image
    except (ImageError, MemoryError, TimeoutError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"the image has more than {limits.max_pixels} pixels") from error
    except Exception as error:
        if isinstance(error, ValueError) and "MAX_TEXT" in str(error):  # Pillow has no other sign of it
            raise ImageTooLargeError(f"a text of the PNG unpacks to more than {_MAX_PNG_TEXT} bytes") from error
        # A decoder fed with hostile bytes raises whatever it stumbles over (OSError, SyntaxError, struct.error,
        # zlib.error, ...); here all of them say the same.
        raise ImageCorruptError(f"the {known.name} image is truncated or corrupt") from error


_BOUNDED_PARTS: Mapping[str, Sequence[tuple[str, Callable[[bytes, int], bool], int]]] = MappingProxyType(
    {
        "JPEG": (
            ("scans", jpeg.has_more_scans, _MAX_JPEG_SCANS),
            ("segments", jpeg.has_more_segments, _MAX_JPEG_SEGMENTS),
        ),
        "PNG": (("profiles", lambda data, most: data.count(b"iCCP") > most, _MAX_PNG_PROFILES),),
        "TIFF": (("strips or tiles", lambda data, most: tiff.count_parts(data) > most, _MAX_TIFF_PARTS),),
    }
)
"""Of a file of each format: what is counted, whether there is more of it than so many, and how many are read."""


def _check_parts(data: bytes, known: ImageFormat) -> None:
    """Refuse what takes its decoder long however few pixels it has, before it is opened."""
    for parts, has_more, most in _BOUNDED_PARTS.get(known.name, ()):
        if has_more(data, most):
            raise ImageTooLargeError(f"the {known.name} has more {parts} than are read: at most {most}")


@cache
def _bound_decoders() -> None:
    """Set what Pillow and its plugins take as variables of their modules only.

    The callers have threads of their own, one for each image.
    """
    PngImagePlugin.MAX_TEXT_CHUNK = _MAX_PNG_TEXT
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    pi_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageCorruptError(f"the image has no pixels: it is {width} x {height}")
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; at most {limits.max_pixels} are read"
        )


_DECODED_PIXELS = MappingProxyType({"AVIF": avif.decoded_pixels, "HEIC": heic.decoded_pixels})
"""What tells how much is decoded to show a file, where that may be more than the image that it shows."""


def _check_decoded(largest: int, total: int, limits: ImageLimits) -> None:
    """Hold what is decoded to the limits: each part to those of an image, all to as much again for transparency."""
    if largest > limits.max_pixels or total > 2 * limits.max_pixels:
        raise ImageTooLargeError(
            f"the parts of the image have {total} pixels, the largest {largest}; at most {limits.max_pixels} are read"
        )


def _check_first_frame(image: Image.Image) -> None:
    """Refuse a TIFF that begins with a thumbnail: what a camera saw stands behind it in a form of the camera's own."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & 1:
        raise ImageFormatError(f"{UNSUPPORTED}; this is a camera's raw file: export it as JPEG")


def _check_samples(image: Image.Image) -> None:
    """Refuse numbers of 32 bits, of which only their program knows what is black and what is white."""
    if image.mode in {"F", "I"}:
        raise ImageFormatError(f"{UNSUPPORTED}; its samples have 32 bits: save it with 8 or 16")


def _upright(image: Image.Image) -> Image.Image:
    """Return an image, decoded, as it is meant to be seen."""
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        # An image whose EXIF block is damaged is still an image; it says nothing of its orientation.
        return image
    transpose = _TRANSPOSE.get(orientation) if isinstance(orientation, int) else None
    return image if transpose is None else image.transpose(transpose)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which Pillow would clip at 255; a value that the file names transparent becomes white."""
    values = np.asarray(image)
    grey = (values / 257).round().clip(0, 255).astype(np.uint8)  # 65535 / 255 = 257
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)
