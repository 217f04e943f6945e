"""JPEG: what is to be known of a file before it is decoded: its segments and scans, and whether it is whole.

Source: ITU-T T.81, annex B.
"""

import io
import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice, takewhile

from PIL import Image

_SEGMENT = re.compile(rb"\xff+[^\x00\x01\xd0-\xd8\xff]")
"""A marker that a length follows, or the end of the image. Left out are 0xFF00, which is a stuffed data byte, and the
markers that stand alone: TEM, RST0..RST7, SOI. Bytes between segments are skipped, as decoders do."""

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

END = b"\xff\xd9"
"""The end marker, EOI."""

_MORE_PIXELS = b"".join(bytes([*range(1, 255), 0xFF, 0xD0 + number]) for number in range(8))
"""What is decoded as pixels where some are missing, and skipped where none are: any bytes, and all restart markers."""


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
    return sum(marker == _START_OF_SCAN for marker in _segments(data))


def has_more_segments(data: bytes, most: int) -> bool:
    """Tell whether more than so many segments stand before the first scan of a JPEG file.

    Args:
        data: the file, beginning with its SOI marker.
        most: segments.
    """
    before = takewhile(lambda marker: marker != _START_OF_SCAN, _segments(data))
    return next(islice(before, most, None), None) is not None


def _segments(data: bytes) -> Iterator[int]:
    """Yield the marker of each segment of the first image."""
    position = 2
    while (found := _SEGMENT.search(data, position)) is not None:
        marker, position = data[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            break
        yield marker
        position += int.from_bytes(data[position : position + 2])


def lacks_end(data: bytes) -> bool:
    """Tell whether no end marker follows the last scan of a JPEG file."""
    if data.endswith(END):  # as nearly all do; to look for the last scan takes milliseconds
        return False
    return data.rfind(END) < data.rfind(bytes([0xFF, _START_OF_SCAN]))


def has_all_pixels(data: bytes) -> bool:
    """Tell whether a JPEG file without its end marker has all of its pixels.

    libjpeg makes pixels that are missing of the bytes that follow, or of nothing where the end follows. If all are
    there, it skips what follows. A progressive file that ends between two scans has all of its pixels, less sharp.
    """

    def decoded(following: bytes) -> bytes:
        whole = data.rstrip(b"\xff") + following + END  # an 0xFF would make a marker of what follows
        with Image.open(io.BytesIO(whole), formats=["JPEG"]) as image:
            if "progressive" not in image.info:
                image.draft(None, (1, 1))  # an eighth of the size is enough: every block has its mean in one place
            return sha256(image.tobytes()).digest()

    return decoded(b"") == decoded(_MORE_PIXELS)
