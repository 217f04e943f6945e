"""Nothing of an image, no file's name and no key reaches a log, a metric or an answer, at any level, by any way."""

import io
import re
import subprocess
import sys
import threading

import httpx
import pytest
from PIL import Image

from testing.fakes import paint
from testing.processes import ROOT

KEY = "telltale-key-abcdef"
NAME = "telltale-name.jpg"
EXIF = "telltale-exif"
FIELD = "telltale-field"
TELLTALES = ("telltale", "dGVsbHRhbGU", "74656c6c74616c65")
"""As it is, in base64 and in hexadecimal."""

PROGRAM = """
import asyncio, sys

from service.server import run, server
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings
from manet.recognizer import Recognizer
from testing.fakes import WEIGHTS, FakeBackend
from tests.service.test_faults import FailingDetector

settings = Settings(
    port=0, log_level="debug", access_log=True, api_keys=sys.argv[1], max_upload_bytes=200_000, deadline=1
)
backend, detector = FakeBackend(), FailingDetector()
backend.poison, detector.poison = 200, 150
run(server(create_app(settings, Recognizer(WEIGHTS, backend, detector), SystemClock(), reload=FakeBackend), settings))
"""


def _image(colour: tuple[int, int, int], format: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = EXIF  # description and artist
    buffer = io.BytesIO()
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    paint(colour).save(buffer, format, exif=exif, **options)
    assert EXIF.encode() in buffer.getvalue()
    return buffer.getvalue()


GOOD, FACE_FAILS, SEARCH_FAILS = _image((255, 0, 0)), _image((200, 0, 0), "PNG"), _image((150, 0, 0), "PNG")

UPLOADS = {
    "answered": (GOOD, 200),
    "no image": (EXIF.encode() * 9, 415),
    "broken": (GOOD[:-200], 422),
    "broken header": (GOOD[:300], 422),
    "too large": (GOOD + EXIF.encode() * 20_000, 413),
    "face failed": (FACE_FAILS, 500),
    "search failed": (SEARCH_FAILS, 500),
}


@pytest.fixture(scope="module")
def seen() -> dict[str, str]:
    """What the process wrote, by where, after every kind of request."""
    said: dict[str, str] = {}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, KEY], cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line)
                if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                    break
            else:
                raise AssertionError("the service did not start: " + "".join(lines))
            stdout = process.stdout
            reader = threading.Thread(target=lambda: lines.extend(stdout))
            reader.start()
            said |= _every_way(found[1])
            process.terminate()
            process.wait(timeout=30)
            reader.join()
            said["log"] = "".join(lines)
        finally:
            process.kill()
    return said


def _every_way(address: str) -> dict[str, str]:
    """Return answers by what was asked: bodies and headers."""
    answers: dict[str, httpx.Response] = {}
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as http:
        for name, (data, status) in UPLOADS.items():
            answers[name] = http.post("/predict", files={"image": (NAME, data)})
            assert answers[name].status_code == status, (name, answers[name].text)
            answers[f"{name}, batch"] = http.post("/predict/batch", files=[("images", (NAME, data))])
        answers["field"] = http.post("/predict", files={FIELD: (NAME, GOOD)})
        answers["no form"] = http.post("/predict", content=EXIF)
        answers["parameter"] = http.post(f"/predict?faces={FIELD}", files={"image": (NAME, GOOD)})
        answers["query"] = http.post(f"/predict?api_key={KEY}", files={"image": (NAME, GOOD)})
        answers["path"] = http.put(f"/uploads/{NAME}", content=GOOD)
        answers["wrong key"] = http.get("/model", headers={"Authorization": f"Bearer {KEY}-wrong"})
        broken = {"Content-Type": f"multipart/form-data; boundary={FIELD}"}
        answers["boundary"] = http.post("/predict", content=EXIF.encode(), headers=broken)
        answers["part"] = http.post("/predict", content=f"--{FIELD}\r\n{EXIF}".encode(), headers=broken)
        answers["id"] = http.get("/model", headers={"X-Request-ID": f"{KEY} {KEY}"})
        answers["head"] = http.get("/model", headers={"X-Long": KEY * 2000})
        assert answers["head"].status_code == 431
        answers["target"] = http.get(f"/model?{KEY * 500}")
        assert answers["target"].status_code == 414
        answers["metrics"] = http.get("/metrics")
    return {name: f"{answer.headers}\n{answer.text}" for name, answer in answers.items()}


def test_nothing_that_was_sent_comes_out_anywhere(seen: dict[str, str]) -> None:
    assert "unexpected" not in seen["log"]
    assert len(seen) > 20
    for where, text in seen.items():
        found = [telltale for telltale in TELLTALES if telltale.lower() in text.lower()]
        line = next((line for line in text.splitlines() if found and found[0].lower() in line.lower()), "")
        assert not found, f"{where}: {line}"


def test_the_log_has_what_an_operator_needs(seen: dict[str, str]) -> None:
    assert '"POST /predict HTTP/1.1" 200' in seen["log"]
    assert '"PUT - HTTP/1.1" 404' in seen["log"]
    assert "the detector failed" in seen["log"]
    assert "a batch of 1 failed in the engine" in seen["log"]
