"""Odd images through the real detector and network: however a file holds the portrait, its face is the same."""

import io
import struct
import warnings
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms

from manet.recognizer import Recognizer
from manet.vision.images import ImageLimits, read_image
from service.app import create_app
from service.clock import SystemClock
from service.observability.log_filters import silence_pillow_warnings
from service.settings import Settings
from testing.fakes import encode
from testing.live import Live, live

PORTRAIT = Image.fromarray(skimage.data.astronaut())
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera that writes this EXIF orientation has turned what it saw."""


@pytest.fixture(scope="module")
def service() -> Iterator[Live]:
    """The service with its default weights."""
    patient = Settings(deadline=300, upload_timeout=300)  # what is asked here is not how fast
    with live(create_app(patient, Recognizer.from_weights("ferplus"), SystemClock())) as served:
        yield served


def face(service: Live, data: bytes) -> dict[str, object]:
    """Return the one face of an image."""
    answer = httpx.post(f"{service.address}/predict", files={"image": ("x", data)}, timeout=300)
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"] == {"width": 512, "height": 512}
    [found] = answer.json()["faces"]
    return dict(found)


def same(one: dict[str, object], other: dict[str, object], *, pixels: float, shares: float) -> None:
    """Hold two faces to each other."""
    assert one["expression"] == other["expression"]
    assert one["box"] == pytest.approx(other["box"], abs=pixels)
    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=shares)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_all_eight_orientations_give_the_same_face(service: Live, orientation: int, format: str) -> None:
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "quality": 0, "method": 0} if format == "WEBP" else {"compress_level": 1}
    turned = encode(PORTRAIT if turn is None else PORTRAIT.transpose(turn), format, exif=exif, **options)

    assert face(service, turned) == face(service, encode(PORTRAIT, "PNG", compress_level=1))


@pytest.mark.parametrize("format", ["GIF", "TIFF", "MPO", "AVIF", "HEIC"])
def test_every_format_gives_the_same_face(service: Live, format: str) -> None:
    options: dict[str, object] = {} if format in ("GIF", "TIFF") else {"quality": 95}
    exif = Image.Exif()
    if format != "GIF":
        exif[0x0112] = 6
        options["exif"] = exif.tobytes()
    stored = PORTRAIT if format == "GIF" else PORTRAIT.transpose(Image.Transpose.ROTATE_90)

    same(
        face(service, encode(stored, format, **options)),
        face(service, encode(PORTRAIT, compress_level=1)),
        pixels=3,
        shares=0.02,
    )


DEPTHS = {
    "cmyk": (encode(PORTRAIT.convert("CMYK"), "JPEG", quality=95), 2.0, 0.02),
    "rgba": (encode(PORTRAIT.convert("RGBA"), compress_level=1), 0.0, 0.0),
    "palette": (encode(PORTRAIT.quantize(256), compress_level=1), 2.0, 0.02),
    "grey": (encode(PORTRAIT.convert("L"), compress_level=1), 3.0, 0.02),
    "grey, 16 bits": (
        encode(Image.fromarray(np.asarray(PORTRAIT.convert("L")).astype(np.uint16) * 257), compress_level=1),
        3.0,
        0.02,
    ),
}


@pytest.mark.parametrize(("data", "pixels", "shares"), DEPTHS.values(), ids=DEPTHS)
def test_other_modes_give_the_same_face(service: Live, data: bytes, pixels: float, shares: float) -> None:
    same(face(service, data), face(service, encode(PORTRAIT, compress_level=1)), pixels=pixels, shares=shares)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """Return an ICC profile (ICC.1:2001-04, version 2) of a display: its primaries in D50 XYZ, and its gamma."""
    white = (0.9642, 1.0, 0.8249)
    tags = {
        name: b"XYZ " + bytes(4) + b"".join(map(_fixed, xyz))
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt"), (*primaries, white), strict=True)
    }
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    tags[b"desc"] = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags[b"cprt"] = b"text" + bytes(4) + b"none\0" + bytes(3)
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    size = struct.pack(">I", start + len(body))
    head = size + bytes(4) + b"\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += b"".join(map(_fixed, white)) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


WIDE = {
    "Display P3": profile(((0.5151, 0.2412, -0.0011), (0.292, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)), 2.2),
    "Adobe RGB": profile(((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)), 2.2),
}
"""Phones and cameras write such profiles. Their primaries, as the profiles in circulation have them."""


@pytest.mark.parametrize("wide", WIDE.values(), ids=WIDE)
def test_a_profile_is_not_applied_because_the_answer_is_the_same(service: Live, wide: bytes) -> None:
    """A profile is read by no one: it would cost a transform and a parser of hostile bytes for nothing."""
    to = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    own = ImageCms.ImageCmsProfile(io.BytesIO(wide))
    stored = ImageCms.profileToProfile(PORTRAIT, to, own)
    assert stored is not None
    assert np.abs(np.asarray(stored).astype(int) - np.asarray(PORTRAIT)).mean() > 1

    profiled, bare = encode(stored, compress_level=1, icc_profile=wide), encode(stored, compress_level=1)

    assert face(service, profiled) == face(service, bare)
    same(face(service, profiled), face(service, encode(PORTRAIT, compress_level=1)), pixels=2, shares=0.02)
    assert face(service, encode(stored, compress_level=1, icc_profile=b"no profile")) == face(service, bare)


def test_what_pillow_says_of_an_image_reaches_no_log() -> None:
    wrong = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x0112, 3, 1000, 60_000) + bytes(4)
    data = encode(PORTRAIT.resize((16, 16)), "JPEG", exif=wrong)
    for quiet in (False, True):
        with warnings.catch_warnings(record=True) as said:
            warnings.resetwarnings()
            if quiet:
                silence_pillow_warnings()
            assert read_image(data, limits=ImageLimits()).shape == (16, 16, 3)
        assert bool(said) is not quiet
