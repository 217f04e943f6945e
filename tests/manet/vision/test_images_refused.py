"""Images that are refused: too large, too costly, damaged, or no image that is read."""

import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from manet.errors import ImageCorruptError, ImageError, ImageFormatError, ImageTooLargeError
from manet.vision.images import ImageLimits, read_crop, read_image, read_scaled
from manet.vision.jpeg import count_scans
from manet.vision.preprocess import Preprocessing
from manet.vision.tiff import count_parts
from testing.fakes import encode

LIMITS = ImageLimits()
SPEC = Preprocessing(input_size=32, colour="grey", detail_size=20)
PORTRAIT = Image.fromarray(skimage.data.astronaut()).resize((96, 80))
PIXELS = np.asarray(PORTRAIT)


def png(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_large_jpeg_that_is_broken_is_so_when_it_is_reduced() -> None:
    data = encode(Image.fromarray(skimage.data.astronaut()).resize((3000, 2000)), "JPEG")

    with pytest.raises(ImageCorruptError, match="truncated or corrupt"):
        read_scaled(data[: len(data) // 2], limits=LIMITS)
    with pytest.raises(ImageTooLargeError, match="3000 x 2000 = 6000000 pixels; at most 5999999"):
        read_scaled(data, limits=ImageLimits(max_pixels=5_999_999))


@pytest.mark.parametrize(
    "data", [b"", b"a text", encode(PORTRAIT, "JPEG")[:900], encode(PORTRAIT)[:900], png(9000, 9000)]
)
def test_what_gives_no_image_gives_no_crop(data: bytes) -> None:
    with pytest.raises(ImageError) as wanted:
        read_image(data, limits=LIMITS)
    with pytest.raises(ImageError) as found:
        read_crop(data, SPEC, limits=LIMITS)

    assert (type(found.value), str(found.value)) == (type(wanted.value), str(wanted.value))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_samples_of_32_bits_are_refused(kind: type) -> None:
    grey: np.ndarray[Any, Any] = np.asarray(PORTRAIT.convert("L")).astype(kind)

    with pytest.raises(ImageFormatError, match="samples have 32 bits"):
        read_image(encode(Image.fromarray(grey), "TIFF"), limits=LIMITS)


def test_too_many_bytes() -> None:
    with pytest.raises(ImageTooLargeError, match="at most 100 are read"):
        read_image(bytes(101), limits=ImageLimits(max_bytes=100))


@pytest.mark.parametrize("size", [(30_000, 30_000), (8000, 8000), (65_000, 65_000)])
def test_too_many_pixels_are_seen_in_the_header_and_never_unpacked(size: tuple[int, int]) -> None:
    data = png(*size)
    tracemalloc.start()
    try:
        with pytest.raises(ImageTooLargeError, match="pixels"):
            read_image(data, limits=LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format", ["GIF", "TIFF", "AVIF", "HEIC"])
def test_pixels_are_counted_before_they_are_decoded(format: str) -> None:
    options = {"compression": "tiff_lzw"} if format == "TIFF" else {}
    data = encode(Image.new("RGB", (4000, 3000)), format, **options)
    tracemalloc.start()
    try:
        with pytest.raises(ImageTooLargeError, match="4000 x 3000 = 12000000 pixels; at most 11999999"):
            read_image(data, limits=ImageLimits(max_pixels=11_999_999))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert read_image(data, limits=ImageLimits(max_pixels=12_000_000)).shape == (3000, 4000, 3)


@pytest.mark.parametrize(("format", "kind"), [("AVIF", ImageTooLargeError), ("HEIC", ImageCorruptError)])
def test_frames_that_are_larger_than_their_file_says_are_not_decoded(format: str, kind: type[ImageError]) -> None:
    data = bytearray(encode(Image.new("RGB", (4000, 3000)), format))
    place = -1
    while (place := data.find(b"ispe", place + 1)) >= 0:
        data[place + 8 : place + 16] = struct.pack(">II", 64, 48)

    with pytest.raises(kind):
        read_image(bytes(data), limits=ImageLimits(max_pixels=5_999_999))


def test_strips_of_a_tiff_are_bounded() -> None:
    rows = encode(Image.new("RGB", (3, 5000)), "TIFF", strip_size=1, compression="tiff_lzw")
    assert count_parts(rows) == 5000
    assert read_image(rows, limits=LIMITS).shape == (5000, 3, 3)

    entries = [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 100_001, 8), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 1)]
    kinds = [("<IH", "<HHII", b"II*\0", 8), (">IH", ">HHII", b"MM\0*", 8), ("<QQ", "<HHQQ", b"II+\0\x08\0\0\0", 16)]
    for counted, kind, head, start in kinds:
        body = b"".join(struct.pack(kind, *entry) for entry in entries)
        many = head + struct.pack(counted, start, len(entries)) + body + bytes(500_000)
        assert count_parts(many) == 100_001
        with pytest.raises(ImageTooLargeError, match="more strips or tiles than are read: at most 100000"):
            read_image(many, limits=LIMITS)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIC"])
@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_image_is_broken(format: str, tenths: int) -> None:
    data = encode(PORTRAIT, format)

    with pytest.raises((ImageCorruptError, ImageFormatError)):
        read_image(data[: len(data) * tenths // 10], limits=LIMITS)


UNREAD = {
    "a text": (
        b"hello, this is text",
        "unsupported image format; supported: JPEG, PNG, .*, HEIC; convert it to JPEG or PNG$",
    ),
    "a PDF": (b"%PDF-1.7\n", "; this is a PDF: export the page as JPEG or PNG$"),
    "SVG": (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing: "),
    "bare SVG": (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing: export it as PNG"),
    "JPEG XL": (b"\xff\x0a" + bytes(9), "a JPEG XL: convert it to JPEG or PNG"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000: convert it"),
    "Photoshop": (b"8BPS\0\1", "a Photoshop file: export it"),
    "an icon": (b"\0\0\1\0\1\0", "an icon: convert it"),
    "Canon's raw": (b"\0\0\0\x18ftypcrx \0\0\0\1", "a camera's raw file: export it as JPEG"),
    "a clip": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video: send single frames as JPEG"),
    "an archive": (b"PK\3\4\x14\0", "a ZIP archive: send the images in it one by one"),
    "a page": (b"<!DOCTYPE html><html>", "an HTML page: send the image itself"),
    "a page after a comment": (b"<!-- a -->\n<!-- b -->\r\n<head>", "an HTML page: send the image itself"),
    "base64": (b"/9j/4AAQSkZJRgABAQAAAQABAAD", "text in base64: send the bytes that it stands for"),
}


@pytest.mark.parametrize(("data", "words"), UNREAD.values(), ids=UNREAD)
def test_other_formats_are_named_with_what_to_do_about_them(data: bytes, words: str) -> None:
    with pytest.raises(ImageFormatError, match=words):
        read_image(data, limits=LIMITS)


def test_the_thumbnail_of_a_raw_file_is_not_taken_for_the_image() -> None:
    with pytest.raises(ImageFormatError, match="a camera's raw file: export it as JPEG"):
        read_image(encode(PORTRAIT, "TIFF", tiffinfo={254: 1}), limits=LIMITS)


@pytest.mark.parametrize("shade", ["white", "black", (127, 127, 127)])
def test_half_of_a_jpeg_of_one_colour_is_broken(shade: str) -> None:
    for progressive in (False, True):
        data = encode(Image.new("RGB", (640, 480), shade), "JPEG", optimize=True, progressive=progressive)
        scans = data.rindex(b"\xff\xda")
        with pytest.raises(ImageCorruptError):
            read_image(data[: scans + (len(data) - scans) // 2], limits=LIMITS)


def test_long_text_and_long_profiles_of_a_png_are_read_up_to_a_bound() -> None:
    def described(size: int) -> bytes:
        text = PngImagePlugin.PngInfo()
        text.add_text("workflow", "x" * size, zip=True)
        return encode(PORTRAIT, pnginfo=text)

    for data in (described(3_000_000), encode(PORTRAIT, icc_profile=bytes(3_000_000))):
        assert len(data) < 100_000
        assert np.array_equal(read_image(data, limits=LIMITS), PIXELS)
    tracemalloc.start()
    try:
        with pytest.raises(ImageTooLargeError, match="text of the PNG"):
            read_image(described(100_000_000), limits=LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 250_000_000
    finally:
        tracemalloc.stop()


def test_an_empty_file_is_broken() -> None:
    with pytest.raises(ImageCorruptError, match="0 bytes"):
        read_image(b"", limits=LIMITS)


def test_scans_are_counted_and_bounded() -> None:
    baseline, progressive = encode(PORTRAIT, "JPEG"), encode(PORTRAIT, "JPEG", progressive=True)
    assert count_scans(baseline) == 1
    scans = count_scans(progressive)
    assert 5 < scans < 15
    assert read_image(progressive, limits=LIMITS).shape == (80, 96, 3)

    # The last scan again and again: valid, tiny, and a pass over all pixels each time.
    end = progressive.rindex(b"\xff\xda")
    many = progressive[:end] + progressive[end:-2] * 200 + b"\xff\xd9"
    assert count_scans(many) == scans + 199
    with pytest.raises(ImageTooLargeError, match="scans"):
        read_image(many, limits=LIMITS)


def test_segments_of_a_jpeg_are_bounded() -> None:
    data = encode(PORTRAIT, "JPEG")
    segment = b"\xff\xe1\x00\x09Exif\0\0x"

    assert read_image(data[:2] + segment * 900 + data[2:], limits=LIMITS).shape == (80, 96, 3)
    with pytest.raises(ImageTooLargeError, match="more segments than are read: at most 1000"):
        read_image(data[:2] + segment * 1000 + data[2:], limits=LIMITS)


def test_profiles_of_a_png_are_bounded() -> None:
    data = encode(PORTRAIT, icc_profile=bytes(100_000))
    start = data.index(b"iCCP") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4])]

    assert read_image(data[:start] + chunk * 3 + data[start:], limits=LIMITS).shape == (80, 96, 3)
    with pytest.raises(ImageTooLargeError, match="more profiles than are read: at most 4"):
        read_image(data[:start] + chunk * 4 + data[start:], limits=LIMITS)


SEEDS = [encode(PORTRAIT, format) for format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIC")]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_give_an_image_or_an_image_error(data: bytes, changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    try:
        found = read_image(bytes(damaged), limits=ImageLimits(max_pixels=1_000_000))
    except ImageError:
        return
    assert found.dtype == np.uint8
    assert found.shape[2] == 3
