"""HEIC: how many pixels are decoded to show a file, which is more than the image that it shows may have.

An image may be derived from others (ISO/IEC 23008-12, section 6.6): a grid of tiles, one laid over another, a part of
one. libheif holds a coded image to the size that its own property ``ispe`` says, but decodes any number of them, of any
size, for a small derived one.
"""

from manet.vision.bmff import Numbers, boxes, children

_MAX_PARTS = 10_000
"""Of all derived images; a photograph of a telephone has some 50 tiles, and libheif reads 1,000 items."""


def decoded_pixels(data: bytes) -> tuple[int, int]:
    """Return the pixels of a file's largest coded image, and of all of them, each counted as often as it is decoded.

    Args:
        data: the file.

    Raises:
        ValueError: if its boxes are damaged, or an image is derived from itself.
    """
    [meta] = [content[4:] for kind, content in boxes(data) if kind == b"meta"]
    inside = children(meta, once=(b"iprp", b"iref"))
    sources = _sources(inside[b"iref"]) if b"iref" in inside else {}
    sizes = _sizes(inside[b"iprp"]) if b"iprp" in inside else {}
    counted: dict[int, int | None] = {}

    def pixels(item: int) -> int:
        if item not in counted:
            counted[item] = None
            counted[item] = sum(map(pixels, sources[item])) if item in sources else sizes.get(item, 0)
        known = counted[item]
        if known is None:
            raise ValueError("an image that is derived from itself")
        return known

    parts = {part for items in sources.values() for part in items}
    every = {item: pixels(item) for item in sizes.keys() | sources.keys()}  # and none is derived from itself
    total = sum(size for item, size in every.items() if item not in parts)
    return max((size for item, size in sizes.items() if item not in sources), default=0), total


def _sources(iref: bytes) -> dict[int, list[int]]:
    """Return from which items each derived one is made (ISO/IEC 14496-12, section 8.11.12)."""
    wide = 4 if iref[0] else 2
    sources: dict[int, list[int]] = {}
    left = _MAX_PARTS
    for kind, content in boxes(iref[4:]):
        if kind == b"dimg":
            numbers = Numbers(content)
            item, count = numbers.take(wide), numbers.take(2)
            left -= count
            if left < 0:
                raise ValueError("too many parts")
            sources.setdefault(item, []).extend(numbers.take(wide) for _ in range(count))
    return sources


def _sizes(iprp: bytes) -> dict[int, int]:
    """Return the pixels of each item that has a size (ISO/IEC 23008-12, sections 6.5.3 and 9.3)."""
    inside = children(iprp, once=(b"ipco",))
    areas = [_area(content) if kind == b"ispe" else 0 for kind, content in boxes(inside[b"ipco"])]
    sizes: dict[int, int] = {}
    for content in (content for kind, content in boxes(iprp) if kind == b"ipma"):
        numbers = Numbers(content)
        version, flags = numbers.take(1), numbers.take(3)
        for _ in range(numbers.take(4)):
            item = numbers.take(4 if version else 2)
            for _ in range(numbers.take(1)):
                # The highest bit says that a reader must know the property; 0 is none.
                property_ = numbers.take(2) & 0x7FFF if flags & 1 else numbers.take(1) & 0x7F
                area = areas[property_ - 1] if 0 < property_ <= len(areas) else 0
                sizes[item] = max(sizes.get(item, 0), area)
    return sizes


def _area(ispe: bytes) -> int:
    return int.from_bytes(ispe[4:8]) * int.from_bytes(ispe[8:12])
