"""Format: the table of image formats that are read, and what a file that is none of them may be."""

import re
from dataclasses import dataclass

from manet.errors import ImageCorruptError, ImageFormatError
from manet.files import HTML_PAGE

BYTES_A_PIXEL = 8
"""Bytes that reading an image takes at most in most formats: Pillow's own of an image and of the same turned upright,
four each."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A format that is read.

    Attributes:
        name: as people write it.
        codec: Pillow's name.
        magic: what every file of it begins with.
        suffixes: of such files' names, the usual one first.
        media_type: by IANA's registry.
        written: whether drawings can be saved in it.
        bytes_a_pixel: that reading an image takes at most, with what its decoder holds beside the pixels
            (``tests/service/test_memory.py`` measures it).
    """

    name: str
    codec: str
    magic: re.Pattern[bytes]
    suffixes: tuple[str, ...]
    media_type: str
    written: bool = True
    bytes_a_pixel: int = BYTES_A_PIXEL


def _magic(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


FORMATS = (
    # An MPO is several JPEGs one behind the other; the first is the image.
    ImageFormat("JPEG", "JPEG", _magic(rb"\xff\xd8\xff"), (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "image/jpeg"),
    ImageFormat("PNG", "PNG", _magic(rb"\x89PNG\r\n\x1a\n"), (".png",), "image/png"),
    ImageFormat("WebP", "WEBP", _magic(rb"RIFF.{4}WEBP"), (".webp",), "image/webp", bytes_a_pixel=16),
    ImageFormat("BMP", "BMP", _magic(rb"BM"), (".bmp",), "image/bmp"),
    ImageFormat("GIF", "GIF", _magic(rb"GIF8[79]a"), (".gif",), "image/gif"),
    ImageFormat("TIFF", "TIFF", _magic(rb"II[*+]\0|MM\0[*+]"), (".tif", ".tiff"), "image/tiff"),
    # Both stand in ISO's base media file format (ISO/IEC 14496-12): their brands tell them apart, and where the first
    # of them is one that both may have, those that follow it.
    ImageFormat(
        "AVIF",
        "AVIF",
        _magic(rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,16}?avi[fs])"),
        (".avif", ".avifs"),
        "image/avif",
        bytes_a_pixel=12,
    ),
    ImageFormat(
        "HEIC",
        "HEIF",
        _magic(rb".{4}ftyp(?:he[iv][cmsx]|m[is]f1)"),
        (".heic", ".heics", ".heif", ".heifs", ".hif"),
        "image/heic",
        written=False,  # pi-heif is pillow-heif without the encoder, which is under the GPL
    ),
)
"""The formats that are read; whatever names them elsewhere is made of this table or tested against it."""

FORMAT_NAMES = tuple(known.name for known in FORMATS)

ONE_OF_THE_FORMATS = f"{', '.join(FORMAT_NAMES[:-1])} or {FORMAT_NAMES[-1]}"
"""For sentences."""

SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)

UNSUPPORTED = f"unsupported image format; supported: {', '.join(FORMAT_NAMES)}"

_CONVERT = "convert it to JPEG or PNG"
_UNREAD = (
    (rb"%PDF-", "a PDF", "export the page as JPEG or PNG"),
    (rb"\s*(?:<\?xml.{0,1024}?)?<svg", "an SVG drawing", "export it as PNG"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL", _CONVERT),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000", _CONVERT),
    (rb"8BPS", "a Photoshop file", "export it as JPEG or PNG"),
    (rb"\x00\x00\x01\x00", "an icon", _CONVERT),
    (rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIU\0|IIR[OS]", "a camera's raw file", "export it as JPEG"),
    (rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ", "a video", "send single frames as JPEG"),
    (rb"PK\x03\x04", "a ZIP archive", "send the images in it one by one"),
    (HTML_PAGE, "an HTML page", "send the image itself"),
    (rb"data:image/|/9j/4|iVBORw0KGgo", "text in base64", "send the bytes that it stands for"),
)
"""What else is sent, by what it begins with, and what to do about it. A raw file that is a TIFF is found when it is
opened."""


def format_of(data: bytes) -> ImageFormat:
    """Return the format that a file's first bytes name.

    Raises:
        ImageCorruptError: if there are none.
        ImageFormatError: if they name none of ``FORMATS``.
    """
    if not data:
        raise ImageCorruptError("the image is empty: it has 0 bytes")
    known = next((known for known in FORMATS if known.magic.match(data)), None)
    if known is None:
        raise ImageFormatError(unsupported(data))
    return known


def unsupported(data: bytes) -> str:
    """Return why a file is not read, and what to do about it where that is known."""
    for magic, name, advice in _UNREAD:
        if re.match(magic, data, re.DOTALL | re.IGNORECASE):
            return f"{UNSUPPORTED}; this is {name}: {advice}"
    return f"{UNSUPPORTED}; {_CONVERT}"
