"""Replicas around a fake network that a test can watch from another process, through a folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from ray import serve
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from manet.backends.base import Logits
from manet.recognizer import Recognizer
from manet.vision.preprocess import Pixels
from service.middleware.request_id import REQUEST_ID
from service.ray_app import ClusterSettings, Replica, application
from service.settings import Settings
from testing.fakes import RED_FACE, WEIGHTS, FakeBackend, FakeDetector


class Breakable(FakeBackend):
    """A network that breaks for good once the folder says that the process's network is broken."""

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__(seconds)
        self._mark = folder / f"{os.getpid()}.broken"

    def infer(self, images: Pixels) -> Logits:
        self.broken = self.broken or self._mark.exists()
        return super().infer(images)


class Noting:
    """Notes the id of each request that this process is given, before anything else is done with it."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app = app
        self._notes = (folder / f"{os.getpid()}.given").open("a", buffering=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._notes.write(f"{Headers(scope=scope)[REQUEST_ID]}\n")
        await self._app(scope, receive, send)


@dataclass(frozen=True)
class Fakes:
    """Loads a replica's recognizer; each batch takes so many seconds."""

    folder: Path
    seconds: float

    def __call__(self, settings: Settings) -> Recognizer:
        return Recognizer(WEIGHTS, Breakable(self.folder, self.seconds), FakeDetector())


class NotedReplica(Replica):
    """A replica whose process notes its requests in the folder of its fakes."""

    async def __init__(self, settings: ClusterSettings, load: Fakes) -> None:  # type: ignore[misc]  # Serve awaits it
        await super().__init__(settings, load)  # type: ignore[misc]  # Serve made it a coroutine
        self._application.add_middleware(Noting, folder=load.folder)


def given(folder: Path) -> dict[int, set[str]]:
    """Return the ids of the requests that each process was given."""
    return {int(path.stem): set(path.read_text().split()) for path in folder.glob("*.given")}


@dataclass(frozen=True)
class Application:
    """A running application."""

    name: str
    client: httpx.Client

    def wait_for(self, replicas: int, seconds: float = 60.0) -> None:
        """Return when exactly so many replicas run and none is coming or going."""
        end = time.monotonic() + seconds
        while (found := self._replicas()) != {"RUNNING": replicas}:
            assert time.monotonic() < end, f"{found} instead of {replicas} replicas"
            time.sleep(0.1)

    def _replicas(self) -> dict[str, int]:
        [deployment] = serve.status().applications[self.name].deployments.values()
        return {str(state): count for state, count in deployment.replica_states.items() if count}

    def post(self, data: bytes = RED_FACE, name: str = "one") -> httpx.Response:
        """Upload one image in a request of that id."""
        headers = {REQUEST_ID: name}
        return self.client.post("predict", headers=headers, files={"image": data})


@contextmanager
def running(name: str, port: int) -> Iterator[Application]:
    """Yield an application that was started, and delete it in the end."""
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/{name}/", timeout=60) as client:
            yield Application(name, client)
    finally:
        serve.delete(name)


@contextmanager
def serving(name: str, port: int, settings: ClusterSettings, fakes: Fakes) -> Iterator[Application]:
    """Run an application of fakes until the end of the block."""
    serve.run(application(settings, fakes, NotedReplica), name=name, route_prefix=f"/{name}")
    with running(name, port) as one:
        yield one
