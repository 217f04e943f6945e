"""The service as a process of its own, for a browser to meet."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

KEY = "open sesame"

_PROGRAM = """
import json
import sys

from starlette.responses import JSONResponse

from manet.recognizer import Recognizer
from service.__main__ import server
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings
from tests.service.fakes import FakeBackend, recognizer

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
