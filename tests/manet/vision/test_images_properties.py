"""Properties of the decoder: any bytes are pixels or a ``ImageError``, and any image comes back as it was meant."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from manet.errors import ImageError
from manet.vision.images import ImageLimits, read_image
from testing.fakes import encode

LIMITS = ImageLimits(max_bytes=100_000, max_pixels=100_000)
HEADS = [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 ", b"BM"]
HEADS += [b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"]
TURNS = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, 1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, -1),
}
"""How pixels lie in a file of each EXIF orientation."""

sides = st.integers(1, 24)
images = st.tuples(sides, sides, st.just(3)).flatmap(lambda shape: arrays.arrays(np.uint8, shape))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_any_bytes_are_pixels_or_an_image_error(head: bytes, rest: bytes) -> None:
    try:
        found = read_image(head + rest, limits=LIMITS)
    except ImageError:
        return
    assert (str(found.dtype), found.ndim, found.shape[2]) == ("uint8", 3, 3)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(images, st.sampled_from(list(TURNS)), st.sampled_from(["PNG", "WEBP", "TIFF"]))
def test_any_image_comes_back_upright_and_whole(pixels: np.ndarray, orientation: int, format: str) -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TURNS[orientation](pixels))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    Image.fromarray(stored).save(buffer, format, exif=exif, **options)

    assert np.array_equal(read_image(buffer.getvalue(), limits=LIMITS), pixels)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    images,
    st.sampled_from(
        [
            (mode, format)
            for format, modes in {
                "JPEG": ("L", "RGB", "CMYK"),
                "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
                "WEBP": ("RGB", "RGBA"),
                "BMP": ("1", "L", "P", "RGB", "RGBA"),
                "GIF": ("1", "L", "P", "RGB", "RGBA"),
                "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"),
                "AVIF": ("L", "RGB", "RGBA"),
                "HEIC": ("L", "LA", "RGB", "RGBA"),
            }.items()
            for mode in modes
        ]
    ),
)
def test_any_mode_keeps_its_shape(pixels: np.ndarray, kind: tuple[str, str]) -> None:
    mode, format = kind

    found = read_image(encode(Image.fromarray(pixels).convert(mode), format), limits=LIMITS)

    assert (str(found.dtype), found.shape) == ("uint8", pixels.shape)
