"""TIFF: what is to be known of a file before it is opened: of how many strips or tiles it says to be made.

Source: TIFF 6.0, section 2; its larger kind, BigTIFF, has numbers of 8 bytes.
"""

from typing import Literal

_OFFSETS = (273, 324)
"""The tags that say where the strips are, and the tiles."""


def count_parts(data: bytes) -> int:
    """Return of how many strips or tiles the first image of a TIFF file says to be made.

    Args:
        data: the file, beginning with its header.
    """
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"

    def number(position: int, size: int) -> int:
        return int.from_bytes(data[position : position + size], order)

    wide = 8 if number(2, 2) == 43 else 4  # noqa: PLR2004 - the version of BigTIFF
    start = number(wide, wide)
    first, size = start + (8 if wide == 8 else 2), 4 + 2 * wide  # noqa: PLR2004
    entries = range(first, min(first + size * number(start, first - start), len(data)), size)
    return max((number(entry + 4, wide) for entry in entries if number(entry, 2) in _OFFSETS), default=0)
