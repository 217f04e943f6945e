"""Memory: what images take is bounded, and free when they were answered, without the collector's search for cycles."""

import base64
import gc
import gzip
import json
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from manet.vision.faces import DetectedFace
from manet.vision.formats import BYTES_A_PIXEL
from manet.vision.preprocess import Pixels
from service.concurrency import Budget
from testing.fakes import NO_FACE, RED_FACE, FakeDetector, encode, make_app, paint
from testing.live import Live, live, until

BODY = 200_000
"""Bytes of each body."""
ROUNDS = 70
"""Of each kind of request: a thousand requests in all."""
FEW = 5
"""Bodies that may be alive in the end: what is kept for reuse, and what the test itself holds."""

PADDED = RED_FACE + bytes(BODY - len(RED_FACE))
"""An image with as much behind it: decoders do not look there."""
IN_JSON = json.dumps({"image": base64.b64encode(PADDED).decode()}).encode()
JSON = {"Content-Type": "application/json"}
DEFLATED = gzip.compress(b'{"inputs": "' + bytes(BODY), compresslevel=1)

Request = Callable[[Live, httpx.Client], None]


@pytest.fixture(scope="module")
def served() -> Iterator[Live]:
    with live(make_app(max_batch_images=4)) as served:
        yield served


@pytest.fixture(scope="module")
def client(served: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.address, timeout=60) as client:
        yield client


def _image(content: bytes, field: str = "image") -> dict[str, tuple[str, bytes]]:
    return {field: ("x.png", content)}


def _cut_off(served: Live, _client: httpx.Client) -> None:
    """Send half of a body, and go."""
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {BODY}"
    )
    part = '--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    with served.connect() as connection:
        connection.sendall(f"{head}\r\n\r\n{part}".encode() + bytes(BODY // 2))
        until(lambda: served.state.admission.bytes > BODY // 4)
        connection.shutdown(socket.SHUT_RDWR)


def _post(path: str, status: int, **options: Any) -> Request:
    def send(_served: Live, client: httpx.Client) -> None:
        answer = client.post(path, **options)
        assert answer.status_code == status, answer.text

    return send


REQUESTS: dict[str, Request] = {
    "an image": _post("/predict", 200, files=_image(PADDED)),
    "an image as a whole": _post("/predict?faces=whole", 200, files=_image(PADDED)),
    "an image as the body": _post("/predict", 200, content=PADDED, headers={"Content-Type": "image/png"}),
    "an image in JSON": _post("/predict", 200, content=IN_JSON, headers=JSON),
    "JSON that is none": _post("/predict", 400, content=IN_JSON[:-1], headers=JSON),
    "JSON without an image": _post("/predict", 422, content=b'["%b"]' % bytes(BODY).hex().encode(), headers=JSON),
    "no face to explain": _post("/explain", 200, files=_image(NO_FACE + bytes(BODY))),
    "an explanation of no image": _post("/explain", 415, files=_image(bytes(BODY))),
    "many images": _post("/predict/batch", 200, files=[("images", PADDED)] * 2 + [("images", bytes(BODY))]),
    "no image": _post("/predict", 415, files=_image(bytes(BODY))),
    "a broken image": _post("/predict", 422, files=_image(RED_FACE[:40] + bytes(BODY))),
    "another field": _post("/predict", 422, files=_image(PADDED, "picture")),
    "two images": _post("/predict", 422, files=[("image", PADDED), ("image", PADDED)]),
    "no form": _post("/predict", 400, content=bytes(BODY), headers={"Content-Type": "multipart/form-data; boundary=b"}),
    "a tensor that is none": _post("/v2/models/ferplus/infer", 400, content=b'{"inputs": [' + b" " * BODY),
    "compressed": _post("/v2/models/ferplus/infer", 400, content=DEFLATED, headers={"Content-Encoding": "gzip"}),
    "cut off": _cut_off,
}


@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_no_body_outlives_its_request(served: Live, client: httpx.Client, request_of: Request) -> None:
    def run(times: int) -> int:
        for _ in range(times):
            request_of(served, client)
        until(served.at_rest)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    gc.collect()
    gc.disable()
    try:
        before = run(FEW)
        after = run(ROUNDS)
    finally:
        gc.enable()
        tracemalloc.stop()

    assert after - before < FEW * BODY


class _Slow(FakeDetector):
    """A detector that holds each image until it is let go, and notes how many pixels are held at once."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.held = self.most = 0
        self._lock = threading.Lock()

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        pixels = image.shape[0] * image.shape[1]
        with self._lock:
            self.held += pixels
            self.most = max(self.most, self.held)
        self.gate.wait(20)
        with self._lock:
            self.held -= pixels
        return super().detect(image, small_faces=small_faces)


def test_decoded_pixels_are_bounded_and_images_wait_for_their_turn() -> None:
    detector = _Slow()
    image = encode(paint((255, 0, 0), size=(200, 100)))
    with live(make_app(detector=detector, workers=4, max_pixels=20_000, max_decoded_pixels=50_000)) as served:

        def send() -> int:
            return httpx.post(f"{served.address}/predict", files=_image(image), timeout=60).status_code

        with ThreadPoolExecutor(8) as clients:
            answers = [clients.submit(send) for _ in range(8)]
            until(lambda: served.state.admission.images == 8)
            until(lambda: detector.held == 40_000)
            detector.gate.set()
            assert {answer.result() for answer in answers} == {200}

    assert detector.most == 40_000


@pytest.mark.parametrize("path", ["/predict", "/predict?faces=whole", "/explain"])
def test_memory_is_reserved_for_every_image(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held, hold = list[int](), Budget.hold

    def noted(self: Budget, amount: int, *, seconds: float) -> AbstractContextManager[None]:
        held.append(amount)
        return hold(self, amount, seconds=seconds)

    monkeypatch.setattr(Budget, "hold", noted)
    image = encode(paint((255, 0, 0), size=(400, 300)))
    with live(make_app(deadline=120)) as served:
        answer = httpx.post(f"{served.address}{path}", files=_image(image), timeout=120)

    assert (answer.status_code, held) == (200, [BYTES_A_PIXEL * 400 * 300])


def test_an_image_that_finds_no_room_before_its_deadline_is_answered_so() -> None:
    detector = _Slow()
    image = encode(paint((255, 0, 0), size=(200, 100)))
    app = make_app(detector=detector, workers=2, max_pixels=20_000, max_decoded_pixels=20_000, deadline=1)
    with live(app) as served:

        def send() -> httpx.Response:
            return httpx.post(f"{served.address}/predict", files=_image(image), timeout=60)

        with ThreadPoolExecutor(2) as clients:
            answers = [clients.submit(send) for _ in range(2)]
            late = next(as_completed(answers)).result()
            detector.gate.set()

    assert (late.status_code, late.json()["type"]) == (504, "urn:manet:problem:deadline-exceeded")


PEAK = """
import sys
from functools import partial
from pathlib import Path
from manet.vision.images import ImageLimits, read_crop, read_image
from manet.weights.registry import get

def memory(name):
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024

small, large = (Path(name).read_bytes() for name in sys.argv[2:])
read = read_image if sys.argv[1] == "image" else partial(read_crop, spec=get("ferplus").preprocessing)
read(small, limits=ImageLimits())
before, reserved = memory("VmRSS"), []
read(large, limits=ImageLimits(), reserve=reserved.append)
print(memory("VmHWM") - before, *reserved)
"""
SIDE = 4000


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc, which is Linux's")
@pytest.mark.parametrize(
    ("mode", "format", "options"),
    [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"exif": _turned()}),
        ("CMYK", "JPEG", {}),
        ("P", "PNG", {"transparency": 0}),
        ("I;16", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
        ("RGB", "WEBP", {}),
        ("RGBA", "AVIF", {"speed": 10}),
        ("I;16", "TIFF", {"compression": "tiff_lzw"}),
        ("RGBA", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "GIF", {}),
    ],
    ids=[
        *("RGB", "turned", "CMYK", "palette", "16 bit", "transparent"),
        *("progressive", "WebP", "AVIF", "TIFF of 16 bits", "transparent TIFF", "GIF"),
    ],
)
@pytest.mark.parametrize("read", ["image", "crop"])
def test_reading_an_image_takes_no_more_than_was_reserved(
    read: str, mode: str, format: str, options: dict[str, object], tmp_path: Path
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for path, side in ((small, 64), (large, SIDE)):
        Image.new(mode, (side, side)).save(path, format, **options)

    command: list[str | Path] = [sys.executable, "-c", PEAK, read, small, large]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    taken, reserved = map(int, printed.split())

    rows = 256 * SIDE * 16  # what a few rows take on their way, and the file itself
    assert taken < reserved + rows
