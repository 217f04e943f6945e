"""Image: bytes in, upright RGB pixels out, under limits that hold before the work is done."""

import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from manet.errors import ImageCorruptError, ImageFormatError, ImageTooLargeError
from manet.vision.preprocess import Pixels, Preprocessing, network_input


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A format that is read.

    Attributes:
        name: as people write it; in capitals it is Pillow's.
        magic: what stands in every file of it, each by its place.
        suffixes: of such files' names, the usual one first.
        media_type: by IANA's registry.
    """

    name: str
    magic: tuple[tuple[int, bytes], ...]
    suffixes: tuple[str, ...]
    media_type: str

    def matches(self, data: bytes) -> bool:
        """Return whether a file is of this format by its first bytes."""
        return all(data.startswith(mark, place) for place, mark in self.magic)


FORMATS = (
    ImageFormat("JPEG", ((0, b"\xff\xd8\xff"),), (".jpg", ".jpeg", ".jpe", ".jfif"), "image/jpeg"),
    ImageFormat("PNG", ((0, b"\x89PNG\r\n\x1a\n"),), (".png",), "image/png"),
    ImageFormat("WebP", ((0, b"RIFF"), (8, b"WEBP")), (".webp",), "image/webp"),
    ImageFormat("BMP", ((0, b"BM"),), (".bmp",), "image/bmp"),
)
"""The formats that are read; whatever names them elsewhere is made of this table or tested against it."""

FORMAT_NAMES = tuple(known.name for known in FORMATS)

ONE_OF_THE_FORMATS = f"{', '.join(FORMAT_NAMES[:-1])} or {FORMAT_NAMES[-1]}"
"""For sentences."""

SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)

UNSUPPORTED = f"unsupported image format; supported: {', '.join(FORMAT_NAMES)}"

_MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten. Each costs a pass over all pixels and can be written in a few dozen bytes."""

_MAX_PNG_TEXT = 16 * 1024 * 1024
"""Bytes that one compressed text or colour profile of a PNG may unpack to: programs that make or edit images keep
their history there. Pillow reads 1 MiB, and refuses the image for more."""

_JPEG_END = b"\xff\xd9"
"""The EOI marker (ITU-T T.81, table B.1)."""

_MORE_PIXELS = b"".join(bytes([*range(1, 255), 0xFF, 0xD0 + number]) for number in range(8))
"""What is decoded as pixels where some are missing, and skipped where none are: any bytes, and all restart markers."""

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
        max_pixels: width times height, taken from the header before any pixel is decoded. Reading holds up to
            about a dozen bytes a pixel for a moment.
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


def read_image(data: bytes, *, limits: ImageLimits) -> Pixels:
    """Return the first frame of an image as it is meant to be seen: upright, RGB, uint8 (height, width, 3).

    EXIF orientation is applied, transparency is laid over white, 16-bit grey is scaled to 8 bits, and palettes, grey
    and CMYK become RGB.

    Args:
        data: a whole file in one of ``FORMATS``; a JPEG may lack its end marker. Its first bytes decide the format; no
            name is looked at.
        limits: the largest image to read.

    Raises:
        ImageTooLargeError: too many bytes, pixels or bytes of text, or more JPEG scans than any camera or program
            writes.
        ImageFormatError: none of the formats.
        ImageCorruptError: empty, truncated or corrupt.
    """
    with _opened(data, limits) as image:
        return as_meant(image)


def as_meant(image: Image.Image) -> Pixels:
    """Return an image of Pillow's as ``read_image`` does: upright, RGB, uint8 (height, width, 3)."""
    image.load()
    return np.asarray(_to_rgb(_upright(image)))


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


def read_crop(data: bytes, spec: Preprocessing, *, limits: ImageLimits) -> Crop:
    """Return the first frame of an image as network input, sooner than by way of ``read_image``.

    For weights that see grey the colours of a JPEG are not decoded at all, and nothing is copied on the way. The input
    is the same but for one rounding less, and for colours so strong that RGB would have clipped them
    (``bench/results/decoding.json``).

    Args:
        data: see ``read_image``.
        spec: what the weights want.
        limits: the largest image to read.

    Raises:
        ImageError: as ``read_image`` does.
    """
    with _opened(data, limits) as image:
        if spec.colour == "grey":
            image.draft("L", None)
        image.load()
        upright = _upright(image)
        plain = upright if upright.mode == "L" and not upright.has_transparency_data else _to_rgb(upright)
        return Crop(*upright.size, network_input(plain, spec))


@contextmanager
def _opened(data: bytes, limits: ImageLimits) -> Iterator[Image.Image]:
    """Give the image with its header read, and make one kind of error of all that comes of reading the rest."""
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(f"the image has {len(data)} bytes; at most {limits.max_bytes} are read")
    codec = _codec(data)
    if codec == "JPEG" and has_more_scans(data, _MAX_JPEG_SCANS):
        raise ImageTooLargeError(f"the JPEG has more scans than are read: at most {_MAX_JPEG_SCANS}")
    unended = codec == "JPEG" and _lacks_end(data)
    try:
        _bound_decoders()
        with Image.open(io.BytesIO(data + _JPEG_END if unended else data), formats=[codec]) as image:
            _check_size(image, limits)
            if unended and not _has_all_pixels(data):
                raise ImageCorruptError("the JPEG image is truncated or corrupt")
            yield image
    except (ImageTooLargeError, ImageCorruptError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"the image has more than {limits.max_pixels} pixels") from error
    except Exception as error:
        if isinstance(error, ValueError) and "MAX_TEXT" in str(error):  # Pillow has no other sign of it
            raise ImageTooLargeError(f"a text of the PNG unpacks to more than {_MAX_PNG_TEXT} bytes") from error
        # A decoder fed with hostile bytes raises whatever it stumbles over (OSError, SyntaxError, struct.error,
        # zlib.error, ...); here all of them say the same.
        raise ImageCorruptError(f"the {codec} image is truncated or corrupt") from error


def _codec(data: bytes) -> str:
    if not data:
        raise ImageCorruptError("the image is empty: it has 0 bytes")
    known = next((known for known in FORMATS if known.matches(data)), None)
    if known is None:
        raise ImageFormatError(UNSUPPORTED)
    return known.name.upper()


@cache
def _bound_decoders() -> None:
    """Set what Pillow takes as a variable of a module only."""
    PngImagePlugin.MAX_TEXT_CHUNK = _MAX_PNG_TEXT


def _lacks_end(data: bytes) -> bool:
    """Tell whether no end marker follows the last scan of a JPEG file."""
    return data.rfind(_JPEG_END) < data.rfind(bytes([0xFF, _START_OF_SCAN]))


def _has_all_pixels(data: bytes) -> bool:
    """Tell whether a JPEG file without its end marker has all of its pixels.

    libjpeg makes pixels that are missing of the bytes that follow, or of nothing where the end follows. If all are
    there, it skips what follows. A progressive file that ends between two scans has all of its pixels, less sharp.
    """

    def decoded(following: bytes) -> bytes:
        whole = data.rstrip(b"\xff") + following + _JPEG_END  # an 0xFF would make a marker of what follows
        with Image.open(io.BytesIO(whole), formats=["JPEG"]) as image:
            if "progressive" not in image.info:
                image.draft(None, (1, 1))  # an eighth of the size is enough: every block has its mean in one place
            return sha256(image.tobytes()).digest()

    return decoded(b"") == decoded(_MORE_PIXELS)


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageCorruptError(f"the image has no pixels: it is {width} x {height}")
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; at most {limits.max_pixels} are read"
        )


def _upright(image: Image.Image) -> Image.Image:
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
    grey = (values / 257).round().astype(np.uint8)  # 65535 / 255 = 257
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


_SEGMENT = re.compile(rb"\xff+[^\x00\x01\xd0-\xd8\xff]")
"""A marker that a length follows, or the end of the image. Left out are 0xFF00, which is a stuffed data byte, and the
markers that stand alone: TEM, RST0..RST7, SOI. Bytes between segments are skipped, as decoders do."""

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def has_more_scans(data: bytes, most: int) -> bool:
    """Tell whether the first image of a JPEG file holds more than so many scans; quick for all that do not.

    Every scan begins with the two bytes that are counted first; elsewhere, as in a thumbnail, they count too much.

    Args:
        data: the file, beginning with its SOI marker.
        most: scans.
    """
    return data.count(bytes([0xFF, _START_OF_SCAN])) > most and count_scans(data) > most


def count_scans(data: bytes) -> int:
    """Return how many scans the first image of a JPEG file holds, walking through its segments.

    Args:
        data: the file, beginning with its SOI marker. Thumbnails inside metadata and whatever follows the image
            (further images, a film) are not counted.
    """
    scans, position = 0, 2
    while (found := _SEGMENT.search(data, position)) is not None:
        marker, position = data[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        position += int.from_bytes(data[position : position + 2])
    return scans
