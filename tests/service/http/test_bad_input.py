"""Bad input, each kind with its exact answer: the tables below are read line by line."""

import re
import zlib
from pathlib import Path

import httpx
import pytest
import skimage.data
from PIL import Image, features

from service.errors import NAMESPACE
from testing.fakes import RED_FACE, encode, make_app, paint, post, running

pytestmark = pytest.mark.anyio

PORTRAIT = Image.fromarray(skimage.data.astronaut()).resize((200, 200))


def bomb() -> bytes:
    """Return a PNG of 110 KB that really unpacks to 30,000 x 30,000 pixels, one bit each."""
    header = (30_000).to_bytes(4) * 2 + bytes((1, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    rows = bytes(1 + 30_000 // 8) * 1000
    data = b"".join(packer.compress(rows) for _ in range(30)) + packer.flush()
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    body = b"".join(len(d).to_bytes(4) + k + d + zlib.crc32(k + d).to_bytes(4) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


BOMB = bomb()
ANIMATION = [paint((255, 0, 0)), paint((0, 0, 255))]
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100)
CLIP = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
SVG = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
FORMATS = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC"

IMAGES = [
    # name of the file, its bytes, status, problem, words of the detail
    ("empty.jpg", b"", 422, "broken-image", "0 bytes"),
    ("one_byte.jpg", b"\xff", 415, "unsupported-image", FORMATS),
    ("text.jpg", b"dear diary", 415, "unsupported-image", FORMATS),
    ("page.pdf", b"%PDF-1.7\n1 0 obj\n", 415, "unsupported-image", f"{FORMATS}; this is a PDF: export the page"),
    ("page.jpg", b"%PDF-1.7\n1 0 obj\n", 415, "unsupported-image", f"{FORMATS}; this is a PDF: export the page"),
    ("drawing.svg", SVG, 415, "unsupported-image", f"{FORMATS}; this is an SVG drawing: export it as PNG"),
    ("clip.mp4", CLIP, 415, "unsupported-image", f"{FORMATS}; this is a video: send single frames"),
    ("clip.jpg", CLIP, 415, "unsupported-image", f"{FORMATS}; this is a video: send single frames"),
    ("only_a_head.heic", HEIC, 422, "broken-image", "HEIC image is truncated or corrupt"),
    ("only_a_head.avif", HEIC.replace(b"heic", b"avif"), 422, "broken-image", "AVIF image is truncated or corrupt"),
    ("only_a_head.gif", b"GIF89a", 422, "broken-image", "GIF image is truncated or corrupt"),
    ("only_a_head.tif", b"II*\0\x08\0\0\0", 422, "broken-image", "TIFF image is truncated or corrupt"),
    ("only_a_head.jpg", b"\xff\xd8\xff", 422, "broken-image", "JPEG image is truncated or corrupt"),
    ("only_a_head.png", b"\x89PNG\r\n\x1a\n", 422, "broken-image", "PNG image is truncated or corrupt"),
    ("only_a_head.webp", b"RIFF\x00\x00\x00\x00WEBP", 422, "broken-image", "WebP image is truncated or corrupt"),
    ("only_a_head.bmp", b"BM", 422, "broken-image", "BMP image is truncated or corrupt"),
    ("bomb.png", BOMB, 413, "payload-too-large", "more than 40000000 pixels"),
    ("wide.png", encode(Image.new("1", (8001, 5000))), 413, "payload-too-large", "8001 x 5000 = 40005000 pixels"),
]


def check(answer: httpx.Response, status: int, kind: str, words: str) -> None:
    """Hold a response to RFC 9457 and to what it should say."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["status"]) == (NAMESPACE + kind, status)
    assert words in body["detail"]


@pytest.mark.parametrize(("name", "data", "status", "kind", "words"), IMAGES, ids=[row[0] for row in IMAGES])
async def test_what_is_no_image_to_look_at(name: str, data: bytes, status: int, kind: str, words: str) -> None:
    async with running(make_app()) as client:
        alone = await client.post("/predict", files={"image": (name, data, "image/jpeg")})
        batch = await client.post("/predict/batch", files=[("images", (name, d)) for d in (RED_FACE, data)])
        metrics = (await client.get("/metrics")).text

    check(alone, status, kind, words)
    assert name not in alone.text
    assert "manet_images_in_flight 0.0" in metrics
    good, bad = batch.json()["results"]
    assert good["prediction"]["faces"]
    assert bad == {"prediction": None, "problem": alone.json()}


@pytest.mark.parametrize("tenths", range(10))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
async def test_an_image_cut_off_after_every_tenth(format: str, tenths: int) -> None:
    data = encode(PORTRAIT, format)
    async with running(make_app()) as client:
        cut, whole = await post(client, data[: len(data) * tenths // 10]), await post(client, data)

    words = f"{format} image is truncated or corrupt" if tenths else "0 bytes"
    check(cut, 422, "broken-image", words)
    assert whole.status_code == 200


def form(*parts: bytes, end: bytes = b"--x--\r\n") -> bytes:
    """Return a multipart body with the boundary ``x``."""
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end


def part(name: str, data: bytes = RED_FACE, *, file: bool = True) -> bytes:
    """Return one part of a form."""
    disposition = f'Content-Disposition: form-data; name="{name}"' + ('; filename="x"' if file else "")
    return disposition.encode() + b"\r\n\r\n" + data


FORM = "multipart/form-data; boundary=x"
GOOD = form(part("image"))
BODIES = {
    # name: content type, body, status, problem, words of the detail
    "nothing at all": (None, b"", 400, "malformed-request", "not multipart/form-data"),
    "an empty form": (FORM, b"", 400, "malformed-request", "not terminated"),
    "a form that only ends": (FORM, b"--x--\r\n", 422, "invalid-parameter", "'image', found 0"),
    "the image itself as a text": ("text/plain", RED_FACE, 400, "malformed-request", "not multipart/form-data"),
    "an empty image in JSON": ("application/json", b'{"image": ""}', 422, "broken-image", "0 bytes"),
    "no boundary": ("multipart/form-data", GOOD, 400, "malformed-request", "boundary"),
    "an empty boundary": ("multipart/form-data; boundary=", GOOD, 400, "malformed-request", "names no boundary"),
    "another boundary": ("multipart/form-data; boundary=y", GOOD, 400, "malformed-request", "does not hold"),
    "a charset that is none": (f"{FORM}; charset=undefined", GOOD, 400, "malformed-request", "charset"),
    "a charset with a null in its name": (f"{FORM}; charset=a\0", GOOD, 400, "malformed-request", "charset"),
    "a name in another charset": (f"{FORM}; charset=utf-16", GOOD, 422, "invalid-parameter", "'image', found 0"),
    "a boundary of 300 bytes": (f"{FORM[:-1]}{'x' * 300}", GOOD, 400, "malformed-request", "too long"),
    "another field": (FORM, form(part("photo")), 422, "invalid-parameter", "'image', found 0"),
    "text in the field": (FORM, form(part("image", b"text", file=False)), 415, "unsupported-image", FORMATS),
    "two images": (FORM, form(part("image"), part("image")), 422, "invalid-parameter", "'image', found 2"),
    "a part without a name": (FORM, form(b"X: y\r\n\r\nz"), 400, "malformed-request", "name"),
    "a part without an end": (FORM, form(part("image"), end=b"")[:-2], 400, "malformed-request", "not terminated"),
    "no line between head and data": (FORM, b"--x\r\nX\r\n--x--", 400, "malformed-request", "does not hold"),
    "1,000 files": (FORM, form(*[part("image")] * 1000), 400, "malformed-request", "too many files"),
    "1,000 other files": (FORM, form(*[part("other")] * 1000), 400, "malformed-request", "too many files"),
    "1,000 fields": (FORM, form(*[part("a", b"b", file=False)] * 1000), 400, "malformed-request", "too many fields"),
    "a field of 2 MB": (FORM, form(part("a", bytes(2_000_000), file=False)), 400, "malformed-request", "1048576 bytes"),
}


@pytest.mark.parametrize(("kind", "body", "status", "problem", "words"), BODIES.values(), ids=BODIES)
async def test_what_is_no_form_with_one_image(
    kind: str | None, body: bytes, status: int, problem: str, words: str
) -> None:
    async with running(make_app()) as client:
        answer = await client.post("/predict", content=body, headers={"content-type": kind} if kind else {})

    check(answer, status, problem, words)


@pytest.mark.parametrize("name", [b"", b"; filename*=UTF-8''x.png", b"; FileName=x", b'; filename=""'])
async def test_an_image_without_a_file_name_or_with_one_of_another_form_is_an_image(name: bytes) -> None:
    other = b'Content-Disposition: form-data; name="image"' + name + b"\r\n\r\n" + RED_FACE
    async with running(make_app()) as client:
        kind = {"content-type": FORM}
        answer = await client.post("/predict", content=form(other), headers=kind)
        named = await client.post("/predict", content=GOOD, headers=kind)

    assert answer.status_code == 200, answer.text
    assert answer.json() == named.json()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"faces": "some"}, "'detect', 'small' or 'whole'"),
        ({"faces": ""}, "'detect', 'small' or 'whole'"),
        ({"max_faces": f"{10**30}"}, "at most 32 faces"),
        ({"max_faces": "0"}, "greater than or equal to 1"),
        ({"max_faces": "-1"}, "greater than or equal to 1"),
        ({"max_faces": "many"}, "valid integer"),
        ({"max_faces": "1.5"}, "valid integer"),
        ({"max_faces": ""}, "valid integer"),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
async def test_parameters_that_are_none(path: str, query: dict[str, str], words: str) -> None:
    async with running(make_app()) as client:
        answer = await client.post(path, params=query, files={"image": RED_FACE})

    check(answer, 422, "invalid-parameter", words)


PEAK = Path("/proc/self/clear_refs")


@pytest.mark.skipif(not PEAK.exists(), reason="only Linux tells a process its peak memory")
async def test_an_image_that_unpacks_to_a_gigabyte_costs_no_memory() -> None:
    assert len(BOMB) < 200_000
    async with running(make_app()) as client:
        await post(client, BOMB)
        before = _resident("VmRSS")
        PEAK.write_text("5")  # forget the peak so far (proc_pid_clear_refs(5))
        for _ in range(5):
            check(await post(client, BOMB), 413, "payload-too-large", "pixels")

        assert _resident("VmHWM") - before < 8_000_000


def _resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


SMALL = {"1 x 1": (1, 1), "1 x 20,000": (1, 20_000), "20,000 x 1": (20_000, 1)}


@pytest.mark.parametrize("size", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("faces", ["detect", "whole"])
async def test_the_smallest_and_the_thinnest_images_are_images(size: tuple[int, int], faces: str) -> None:
    async with running(make_app()) as client:
        answer = await post(client, encode(Image.new("RGB", size)), faces=faces)

    assert answer.status_code == 200
    assert answer.json()["image"] == {"width": size[0], "height": size[1]}
    assert len(answer.json()["faces"]) == (faces == "whole")


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow writes no WebP")
@pytest.mark.parametrize("format", ["WEBP", "PNG"])
async def test_of_an_animation_the_first_frame_is_looked_at(format: str) -> None:
    moving = encode(ANIMATION[0], format, save_all=True, append_images=ANIMATION[1:], lossless=True)
    async with running(make_app()) as client:
        first, still = await post(client, moving), await post(client, encode(ANIMATION[0]))

    assert first.status_code == 200
    assert first.json() == still.json()
