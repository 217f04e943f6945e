"""Scans of a JPEG, counted from its markers without decoding (ITU-T T.81, annex B)."""

import re

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
