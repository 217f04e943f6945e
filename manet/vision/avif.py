"""AVIF: how many pixels a file makes the decoder of AV1 hold, which its own header does not say.

An AVIF states the size of its image in its boxes (ISO/IEC 14496-12 and 23008-12). The frames in it state their own,
and libavif decodes them at that size, whatever it is, and scales the result. So the bound on pixels is held here, by
the sequence headers of the frames (AV1 Bitstream and Decoding Process Specification, sections 5.3 to 5.5).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from manet.vision.bmff import Numbers, boxes, children

_MAX_UNITS = 100_000
"""Units of all items that are looked at; a still image has a handful for each of its tiles."""

_SEQUENCE_HEADER = 1


def as_still(data: bytes) -> bytes:
    """Return a file with the brand of a still image, so that no sequence in it is decoded in the image's place."""
    return data if data.startswith(b"avif", 8) else data[:8] + b"avif" + data[12:]


def decoded_pixels(data: bytes) -> tuple[int, int]:
    """Return the most pixels that an AV1 frame of a file's items has, and that all of them have together.

    Args:
        data: the file.

    Raises:
        ValueError: if the items cannot be found, or are not what the decoder reads either.
    """
    units, frames = 0, [0]
    for item in _items(data):
        largest = 0
        for kind, content in _units(item):
            units += 1
            if units > _MAX_UNITS:
                raise ValueError("too many units")
            if kind == _SEQUENCE_HEADER:
                largest = max(largest, _sequence_pixels(content))
        frames.append(largest)
    return max(frames), sum(frames)


def _items(data: bytes) -> Iterator[bytes]:
    """Yield the bytes of every item of a file (ISO/IEC 14496-12, section 8.11.3)."""
    left = len(data)  # no two items share bytes, so that all of them are no longer than the file
    for meta in (content[4:] for kind, content in boxes(data) if kind == b"meta"):
        inside = children(meta, once=(b"iloc", b"idat"))
        for extents in _locations(inside[b"iloc"]) if b"iloc" in inside else ():
            pieces = []
            for extent in extents:
                source = inside.get(b"idat", b"") if extent.in_meta else data
                pieces.append(source[extent.offset :][: extent.length or len(source)])
                left -= len(pieces[-1])
                if left < 0:
                    raise ValueError("items that share bytes")
            yield b"".join(pieces)


@dataclass(frozen=True, slots=True)
class _Extent:
    """A part of an item: ``length`` bytes, 0 for all that follow, in the file or in the box ``idat``."""

    in_meta: bool
    offset: int
    length: int


def _locations(iloc: bytes) -> Iterator[list[_Extent]]:
    numbers = Numbers(iloc)
    version = numbers.take(4) >> 24
    sizes = numbers.take(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2  # noqa: PLR2004 - the version that the standard gives
    for _ in range(numbers.take(wide)):
        numbers.take(wide)  # the item's number
        method = numbers.take(2) & 15 if version else 0
        numbers.take(2)  # another file, which is never read
        base = numbers.take(base_size)
        extents = []
        for _ in range(numbers.take(2)):
            numbers.take(index_size if version else 0)
            offset, length = base + numbers.take(offset_size), numbers.take(length_size)
            extents.append(_Extent(method == 1, offset, length))
        yield extents


def _units(item: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the content of each open bitstream unit of an item; none if it is no AV1."""
    position = 0
    while position < len(item):
        head, position = item[position], position + 1
        position += head >> 2 & 1  # an extension
        size = len(item) - position
        if head >> 1 & 1:
            size = shift = 0
            for byte in item[position : position + 8]:
                position += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:  # noqa: PLR2004 - the last byte of the number
                    break
        yield head >> 3 & 15, item[position : position + min(size, 512)]
        position += size


class _Bits:
    """Numbers of any count of bits, read one after the other."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def number(self, size: int) -> int:
        """Return the next ``size`` bits as a number."""
        self._left -= size
        if self._left < 0:
            raise ValueError("a sequence header ends too early")
        return self._value >> self._left & (1 << size) - 1


def _sequence_pixels(content: bytes) -> int:
    """Return the most pixels of a frame that a sequence header allows (section 5.5.1)."""
    bits = _Bits(content)
    bits.number(4)  # seq_profile, still_picture
    reduced = bits.number(1)
    if reduced:
        bits.number(5)  # seq_level_idx
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.number(4) + 1, bits.number(4) + 1
    if not reduced:  # a frame may then have a size of its own, in as many bits
        return 1 << width_bits + height_bits
    return (bits.number(width_bits) + 1) * (bits.number(height_bits) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.number(1):  # timing_info_present_flag
        bits.number(64)
        if bits.number(1):  # equal_picture_interval: a number in the code of Elias follows
            zeros = 0
            while not bits.number(1):
                zeros += 1
            bits.number(zeros)
        if bits.number(1):  # decoder_model_info_present_flag
            delay_bits = bits.number(5) + 1
            bits.number(42)
    has_delay = bits.number(1)
    for _ in range(bits.number(5) + 1):
        bits.number(12)  # operating_point_idc
        if bits.number(5) > 7:  # noqa: PLR2004 - seq_level_idx; seq_tier follows above 7
            bits.number(1)
        if delay_bits and bits.number(1):
            bits.number(2 * delay_bits + 1)
        if has_delay and bits.number(1):
            bits.number(4)
