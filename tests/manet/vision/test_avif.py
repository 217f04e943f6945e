"""How many pixels an AVIF makes its decoder hold, from what the file itself says of its frames."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manet.vision.avif import as_still, decoded_pixels
from testing.fakes import encode

STILL = encode(Image.new("RGB", (300, 200), "red"), "AVIF")
CLEAR = encode(Image.new("RGBA", (300, 200), (9, 9, 9, 9)), "AVIF")
MOVING = encode(
    Image.new("RGB", (300, 200)), "AVIF", save_all=True, append_images=[Image.new("RGB", (300, 200), "red")]
)


def test_the_frames_of_colour_and_of_transparency_are_counted() -> None:
    assert decoded_pixels(STILL) == (60_000, 60_000)
    assert decoded_pixels(CLEAR) == (60_000, 120_000)


def test_where_a_frame_may_have_its_own_size_the_largest_is_counted() -> None:
    assert decoded_pixels(MOVING) == (512 * 256, 512 * 256)


def test_of_a_sequence_the_still_image_is_read() -> None:
    assert STILL[8:12] == b"avif"
    assert as_still(STILL) is STILL
    assert MOVING[8:12] == b"avis"
    assert as_still(MOVING) == MOVING.replace(b"ftypavis", b"ftypavif", 1)


def test_items_that_share_bytes_are_refused() -> None:
    place = CLEAR.index(b"iloc")
    twice = bytearray(CLEAR)
    # version 0; after the sizes and the count two items of 14 bytes: number, file, extents, offset, length
    second = place + 12 + 14
    twice[second + 6 : second + 14] = bytes(4) + len(CLEAR).to_bytes(4)

    with pytest.raises(ValueError, match="share bytes"):
        decoded_pixels(bytes(twice))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from([STILL, CLEAR, MOVING]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    st.floats(0, 1),
)
def test_damaged_files_have_some_pixels_or_are_refused(
    data: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    with contextlib.suppress(ValueError):
        largest, total = decoded_pixels(bytes(damaged[: round(kept * len(damaged))]))
        assert 0 <= largest <= total
