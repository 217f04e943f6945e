"""What a browser is started with: the service as a process of its own, flags, and a clip in place of a camera."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]

KEY = "open sesame"

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_PROGRAM = """
import json
import sys

from starlette.responses import JSONResponse

from manet.recognizer import Recognizer
from service.server import server
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings
from testing.fakes import FakeBackend, recognizer

choices = json.loads(sys.argv[1])


class Locked:
    # A gateway that wants a key for everything but the page.
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        guarded = scope["type"] == "http" and scope["path"] in ("/predict", "/model")
        if guarded and (b"x-api-key", choices["key"].encode()) not in scope["headers"]:
            problem = {"type": "urn:manet:problem:unauthorized", "title": "No key", "status": 401, "detail": "no key"}
            answer = JSONResponse(problem, 401, media_type="application/problem+json")
            return await answer(scope, receive, send)
        return await self.app(scope, receive, send)


settings = Settings(port=0, **choices["settings"])
real = choices["real"]
known = Recognizer.from_weights("ferplus", threads=2) if real else recognizer(FakeBackend(choices["seconds"]))
app = create_app(settings, known, SystemClock())
if choices["key"]:
    app.add_middleware(Locked)
server(app, settings).run()
"""


@contextlib.contextmanager
def serving(*, real: bool = False, seconds: float = 0.0, key: str = "", **settings: object) -> Iterator[str]:
    """Yield the address of a service, with the weights that ship or around fakes that take so long for a face."""
    choices = json.dumps({"real": real, "seconds": seconds, "key": key, "settings": settings})
    command = [sys.executable, "-c", _PROGRAM, choices]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            started = (re.search(r"running on (http://127\.0\.0\.1:\d+)", line) for line in process.stderr)
            address = next((found[1] for found in started if found), None)
            assert address, "the service did not start"
            yield address
        finally:
            process.kill()


def write_clip(path: Path, frames: list[Image.Image]) -> None:
    """Write frames of one size as YUV4MPEG2, 20 a second; both sides are even."""
    width, height = frames[0].size
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F20:1 Ip A1:1 C420jpeg\n" % (width, height))
        for frame in frames:
            luma, *chroma = frame.convert("YCbCr").split()
            file.write(b"FRAME\n" + np.asarray(luma).tobytes())
            for plane in chroma:
                file.write(np.asarray(plane.resize((width // 2, height // 2))).tobytes())
