"""Images: every format, orientation and mode that is read."""

import numpy as np
import pi_heif
import pytest
import skimage.data
from PIL import AvifImagePlugin, Image

from manet.errors import ImageCorruptError, ImageTooLargeError
from manet.vision.images import ImageLimits, read_crop, read_image, read_scaled
from manet.vision.preprocess import Pixels, Preprocessing, network_input
from testing.fakes import encode

LIMITS = ImageLimits()
PORTRAIT = Image.fromarray(skimage.data.astronaut()).resize((96, 80))
PIXELS = np.asarray(PORTRAIT)


EVERY: dict[str, tuple[str, dict[str, object], float]] = {
    # as encode() has them: format, options, mean difference of the pixels
    "JPEG": ("JPEG", {"quality": 98}, 4),
    "MPO": ("MPO", {"save_all": True, "append_images": [PORTRAIT.rotate(180)], "quality": 98}, 4),
    "PNG": ("PNG", {}, 0),
    "WebP": ("WEBP", {"lossless": True}, 0),
    "BMP": ("BMP", {}, 0),
    "GIF": ("GIF", {}, 4),
    "TIFF": ("TIFF", {}, 0),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}, 0),
    "TIFF, JPEG": ("TIFF", {"compression": "jpeg"}, 6),
    "AVIF": ("AVIF", {"quality": 95}, 4),
    "HEIC": ("HEIC", {"quality": 95}, 4),
}


@pytest.mark.parametrize(("format", "options", "difference"), EVERY.values(), ids=EVERY)
def test_every_format(format: str, options: dict[str, object], difference: float) -> None:
    data = encode(PORTRAIT, format, **options)
    found, crop = read_image(data, limits=LIMITS), read_crop(data, SPECS[0], limits=LIMITS)

    assert (str(found.dtype), found.shape) == ("uint8", (80, 96, 3))
    assert np.abs(found.astype(int) - PIXELS).mean() <= difference
    assert (crop.width, crop.height) == (96, 80)
    assert np.abs(crop.pixels.astype(int) - network_input(found, SPECS[0])).mean() < 0.3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "MPO", "WebP", "TIFF", "TIFF, LZW", "AVIF", "HEIC"])
def test_every_exif_orientation_comes_out_upright(format: str, orientation: int) -> None:
    undone = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = PORTRAIT.transpose(undone[orientation]) if orientation in undone else PORTRAIT
    exif = Image.Exif()
    exif[0x0112] = orientation

    codec, options, difference = EVERY[format]
    if format == "MPO":
        options = {"quality": 98}

    # AVIF and HEIC turn the image by boxes of their own, too, and the block of EXIF still says that it is turned.
    found = read_image(encode(stored, codec, exif=exif.tobytes(), **options), limits=LIMITS)

    assert found.shape == PIXELS.shape
    assert np.abs(found.astype(int) - PIXELS).mean() <= difference


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"subsampling": "4:2:0", "orientation": 6}),
        ("JPEG", {"orientation": 3}),
        ("MPO", {"orientation": 8}),
    ],
    ids=["plain", "progressive", "turned by a quarter", "upside down", "two images, turned"],
)
@pytest.mark.parametrize(("width", "height", "share"), [(2881, 1407, 2), (1203, 5763, 4)])
def test_a_large_jpeg_is_reduced_and_the_whole_is_to_be_had(
    format: str, options: dict[str, object], *, width: int, height: int, share: int
) -> None:
    options = {"quality": 95, **options}
    exif = Image.Exif()
    exif[0x0112] = orientation = options.pop("orientation", 1)
    stored = Image.fromarray(skimage.data.astronaut()).resize((width, height))
    data = encode(stored, format, exif=exif.tobytes(), **options)
    reserved: list[int] = []

    scaled = read_scaled(data, limits=LIMITS, reserve=reserved.append)

    whole = read_image(data, limits=LIMITS)
    size = (height, width) if orientation in {6, 8} else (width, height)
    assert (scaled.width, scaled.height) == size
    assert scaled.reduced
    assert scaled.pixels.shape == (-(-size[1] // share), -(-size[0] // share), 3)
    assert np.array_equal(scaled.whole(), whole)
    small = Image.fromarray(whole).resize(scaled.pixels.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(scaled.pixels.astype(int) - np.asarray(small)).mean() < 2
    assert reserved == [width * height * (10 if options.get("progressive") else 8)]


@pytest.mark.parametrize(("format", "size"), [("JPEG", (2879, 40)), ("PNG", (3000, 40)), ("WebP", (40, 3000))])
def test_what_is_not_large_or_no_jpeg_is_read_whole(format: str, size: tuple[int, int]) -> None:
    data = encode(Image.fromarray(skimage.data.astronaut()).resize(size), format)

    scaled = read_scaled(data, limits=LIMITS)

    assert not scaled.reduced
    assert (scaled.width, scaled.height) == size
    assert np.array_equal(scaled.pixels, read_image(data, limits=LIMITS))
    assert scaled.whole() is scaled.pixels


SPECS = [
    Preprocessing(input_size=32, colour="grey", detail_size=20),
    Preprocessing(input_size=40, colour="rgb"),
    Preprocessing(input_size=224, colour="grey"),
]


def crop_of(data: bytes) -> Pixels:
    return read_crop(data, SPECS[0], limits=LIMITS).pixels


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_a_crop_is_the_network_input_of_the_image(format: str, mode: str, spec: Preprocessing) -> None:
    drawable = {"PNG": ("RGB", "L", "RGBA", "P"), "WEBP": ("RGB", "RGBA"), "JPEG": ("RGB", "L", "CMYK")}
    if mode not in drawable[format]:
        mode = "RGB"
    image = Image.fromarray(skimage.data.astronaut()).resize((301, 452)).convert(mode)
    data = encode(image, format)

    crop = read_crop(data, spec, limits=LIMITS)

    wanted = network_input(read_image(data, limits=LIMITS), spec)
    assert (crop.width, crop.height) == (301, 452)
    assert (str(crop.pixels.dtype), crop.pixels.shape) == ("uint8", wanted.shape)
    far = np.abs(crop.pixels.astype(int) - wanted)
    assert far.mean() <= (0.2 if format == "JPEG" else 0)  # the suit's orange is clipped in RGB


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(301, 452), (201, 202), (30, 70)])
def test_a_crop_of_every_orientation_is_upright(size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(skimage.data.astronaut()).resize(size), "JPEG", quality=95, exif=exif)
    image = read_image(data, limits=LIMITS)

    crop = read_crop(data, SPECS[0], limits=LIMITS)

    assert (crop.height, crop.width) == image.shape[:2]
    assert np.abs(crop.pixels.astype(int) - network_input(image, SPECS[0])).mean() < 0.2


def test_an_orientation_that_makes_no_sense_is_no_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77

    assert np.array_equal(read_image(encode(PORTRAIT, exif=exif), limits=LIMITS), PIXELS)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = PORTRAIT.convert(mode)

    found = read_image(encode(image), limits=LIMITS)

    assert np.array_equal(found, np.asarray(image.convert("RGB")))


def test_cmyk_becomes_rgb() -> None:
    found = read_image(encode(PORTRAIT.convert("CMYK"), "JPEG", quality=98), limits=LIMITS)

    assert np.abs(found.astype(int) - PIXELS).mean() < 3


def test_sixteen_bit_grey_is_scaled_and_not_cut_off() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None, :].repeat(4, axis=0)

    found = read_image(encode(Image.fromarray(ramp)), limits=LIMITS)

    assert np.abs(found[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    assert (found[..., 0] == found[..., 1]).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I;16B"])
def test_modes_of_tiff_are_those_of_other_formats(mode: str) -> None:
    if mode.startswith("I;16"):
        values = np.asarray(PORTRAIT.convert("L")).astype(f"{'>' if mode == 'I;16B' else '<'}u2") * 257
        image, wanted = Image.fromarray(values), PORTRAIT.convert("L").convert("RGB")
    else:
        image = PORTRAIT.convert(mode)
        wanted = image.convert("RGB")

    assert np.array_equal(read_image(encode(image, "TIFF"), limits=LIMITS), np.asarray(wanted))


@pytest.mark.parametrize("format", ["GIF", "TIFF", "AVIF", "HEIC"])
def test_what_is_transparent_is_white_in_every_format(format: str) -> None:
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))

    assert (read_image(encode(clear, format), limits=LIMITS) == 255).all()


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30])

    assert (read_image(encode(clear), limits=LIMITS) == 255).all()
    assert np.abs(read_image(encode(half), limits=LIMITS).astype(int) - 127).max() <= 1
    assert (read_image(encode(palette, transparency=0), limits=LIMITS) == 255).all()


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]

    for format in ("WEBP", "PNG", "GIF", "TIFF", "AVIF"):
        options = {"lossless": True} if format == "WEBP" else {}
        found = read_image(encode(frames[0], format, save_all=True, append_images=frames[1:], **options), limits=LIMITS)
        assert np.abs(found[8, 8].astype(int) - [255, 0, 0]).max() < 4, format


def test_as_many_pixels_as_allowed() -> None:
    data = encode(Image.new("RGB", (40, 50)))

    assert read_image(data, limits=ImageLimits(max_pixels=2000)).shape == (50, 40, 3)
    with pytest.raises(ImageTooLargeError, match="40 x 50 = 2000 pixels; at most 1999"):
        read_image(data, limits=ImageLimits(max_pixels=1999))


def test_decoders_have_no_threads_of_their_own() -> None:
    read_image(encode(PORTRAIT, "AVIF"), limits=LIMITS)

    assert (AvifImagePlugin.DEFAULT_MAX_THREADS, pi_heif.options.DECODE_THREADS) == (1, 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    assert read_image(encode(Image.new("RGB", size)), limits=LIMITS).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
def test_a_jpeg_without_its_end_marker_is_read_and_one_without_pixels_is_not(options: dict[str, object]) -> None:
    data = encode(PORTRAIT, "JPEG", **options)
    assert data.endswith(b"\xff\xd9")

    for cut in (1, 2):
        assert np.array_equal(read_image(data[:-cut], limits=LIMITS), read_image(data, limits=LIMITS))
        assert np.array_equal(read_crop(data[:-cut], SPECS[0], limits=LIMITS).pixels, crop_of(data))
    assert np.array_equal(read_image(data[:-2] + bytes(4096), limits=LIMITS), read_image(data, limits=LIMITS))
    last_scan = data.rindex(b"\xff\xda") + 20
    for kept in range(max(len(data) // 2, last_scan), len(data) - 10, 61):
        with pytest.raises(ImageCorruptError):
            read_image(data[:kept], limits=LIMITS)
