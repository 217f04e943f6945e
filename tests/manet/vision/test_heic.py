"""How many pixels are decoded to show a HEIC: of hostile ones many more than the image has that they show."""

import contextlib
import io
import struct

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manet.errors import ImageCorruptError, ImageTooLargeError
from manet.vision.bmff import boxes, children
from manet.vision.heic import decoded_pixels
from manet.vision.images import ImageLimits, read_image
from testing.fakes import encode

SIDE = 128
RED = encode(Image.new("RGB", (SIDE, SIDE), "red"), "HEIC")
CLEAR = encode(Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 9)), "HEIC")
GRID = io.BytesIO()
pillow_heif.from_pillow(Image.effect_noise((256, 192), 40).convert("RGB")).save(GRID, tile_size=64)


def _box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, content))) + kind + b"".join(content)


def _full(kind: bytes, version: int, *content: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24), *content)


def derived(kind: bytes, how: bytes, size: int, parts: int) -> bytes:
    """Return a file whose image is derived from so many coded ones, all of which stand in the same bytes."""
    meta = children(dict(boxes(RED))[b"meta"][4:], once=())
    coded = dict(boxes(RED))[b"mdat"]
    decoder = dict(boxes(dict(boxes(meta[b"iprp"]))[b"ipco"]))[b"hvcC"]
    last = parts + 1
    items = [struct.pack(">HH", item, 0) + b"hvc1\0" for item in range(1, last)]
    names = [_full(b"infe", 2, item) for item in (*items, struct.pack(">HH", last, 0) + kind + b"\0")]
    sizes = [_full(b"ispe", 0, struct.pack(">II", side, side)) for side in (SIDE, size)]
    has = [struct.pack(">HB", item, 2) + bytes([0x81, 2]) for item in range(1, last)]

    def placed(start: int) -> bytes:
        extents = [struct.pack(">HHHHII", item, 0, 0, 1, start, len(coded)) for item in range(1, last)]
        extents.append(struct.pack(">HHHHII", last, 1, 0, 1, 0, len(how)))
        return _full(
            b"meta",
            0,
            _full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            _full(b"pitm", 0, struct.pack(">H", last)),
            _full(b"iloc", 1, struct.pack(">BBH", 0x44, 0, last), *extents),
            _full(b"iinf", 0, struct.pack(">H", last), *names),
            _full(b"iref", 0, _box(b"dimg", struct.pack(f">HH{parts}H", last, parts, *range(1, last)))),
            _box(
                b"iprp",
                _box(b"ipco", _box(b"hvcC", decoder), *sizes),
                _full(b"ipma", 0, struct.pack(">I", last), *has, struct.pack(">HBB", last, 1, 3)),
            ),
            _box(b"idat", how),
        )

    head = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
    return head + placed(len(head) + len(placed(0)) + 8) + _box(b"mdat", coded)


def test_coded_images_are_counted_alone_with_transparency_and_as_tiles() -> None:
    assert decoded_pixels(RED) == (SIDE**2, SIDE**2)
    assert decoded_pixels(CLEAR) == (SIDE**2, 2 * SIDE**2)
    assert decoded_pixels(GRID.getvalue()) == (64 * 64, 256 * 192)
    assert read_image(GRID.getvalue(), limits=ImageLimits(max_pixels=256 * 192)).shape == (192, 256, 3)


def test_a_small_image_may_not_be_derived_from_many_pixels() -> None:
    four = derived(b"grid", struct.pack(">BBBBII", 0, 1, 1, 1, 2 * SIDE, 2 * SIDE), 2 * SIDE, 4)
    layers = struct.pack(">BB4HII", 0, 1, 0, 0, 0, 0, 64, 64)
    many = derived(b"iovl", layers + bytes(8 * 50), 64, 50)
    one = derived(b"iovl", layers + bytes(8), 64, 1)
    limits = ImageLimits(max_pixels=4 * SIDE**2)

    assert np.abs(read_image(four, limits=limits).astype(int) - [254, 0, 0]).max() < 4
    assert read_image(one, limits=limits).shape == (64, 64, 3)
    assert (decoded_pixels(many), decoded_pixels(one)) == ((SIDE**2, 50 * SIDE**2), (SIDE**2, SIDE**2))
    with pytest.raises(ImageTooLargeError, match=f"have {50 * SIDE**2} pixels, the largest {SIDE**2}"):
        read_image(many, limits=limits)
    with pytest.raises(ImageTooLargeError):
        read_image(one, limits=ImageLimits(max_pixels=SIDE**2 - 1))


def test_an_image_that_is_derived_from_itself_is_refused() -> None:
    looped = derived(b"iovl", bytes(30), 64, 1).replace(struct.pack(">HHH", 2, 1, 1), struct.pack(">HHH", 2, 1, 2))

    with pytest.raises(ValueError, match="derived from itself"):
        decoded_pixels(looped)
    with pytest.raises(ImageCorruptError):
        read_image(looped, limits=ImageLimits())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from([RED, CLEAR, GRID.getvalue()]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    st.floats(0, 1),
)
def test_damaged_files_have_some_pixels_or_are_refused(
    data: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    with contextlib.suppress(ValueError, LookupError):
        largest, total = decoded_pixels(bytes(damaged[: round(kept * len(damaged))]))
        assert largest >= 0
        assert total >= 0
