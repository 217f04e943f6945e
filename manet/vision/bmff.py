"""BMFF: the boxes of which AVIF and HEIC are made (ISO/IEC 14496-12, section 4.2), and the numbers in them."""

from collections.abc import Collection, Iterator


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the content of each box, in their order.

    Raises:
        ValueError: if one has no size, or a larger one than there are bytes.
    """
    position = 0
    while position + 8 <= len(data):
        size, head = int.from_bytes(data[position : position + 4]), 8
        kind = data[position + 4 : position + 8]
        if size == 1:
            size, head = int.from_bytes(data[position + 8 : position + 16]), 16
        elif size == 0:
            size = len(data) - position
        if size < head or position + size > len(data):
            raise ValueError("a box that is no box")
        yield kind, data[position + head : position + size]
        position += size


def children(data: bytes, *, once: Collection[bytes]) -> dict[bytes, bytes]:
    """Return boxes by their type, the first of each.

    Raises:
        ValueError: if one of the types ``once`` is there twice, for readers differ in which of them counts.
    """
    found: dict[bytes, bytes] = {}
    for kind, content in boxes(data):
        if kind in found and kind in once:
            raise ValueError("a box that may be there once is there twice")
        found.setdefault(kind, content)
    return found


class Numbers:
    """Numbers, taken off the content of a box one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> int:
        """Return the next ``size`` bytes as a number.

        Raises:
            ValueError: if there are fewer.
        """
        self._position += size
        if self._position > len(self._data):
            raise ValueError("a box ends too early")
        return int.from_bytes(self._data[self._position - size : self._position])
