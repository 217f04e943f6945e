"""Front end: a process with the whole application, whose network is in the engine's process."""

import asyncio
import json
import logging
import socket
from functools import partial
from types import FrameType
from typing import Any

import limits
import uvicorn
from fastapi import FastAPI

from manet.recognizer import Recognizer
from manet.vision.faces import FaceDetector
from manet.vision.retinaface import RetinaFaceDetector
from service.app import SharedParts, create_app
from service.batching.policy import BatchPolicy
from service.clock import SystemClock
from service.http.protocol import BoundedProtocol
from service.observability.log_filters import silence_pillow_warnings
from service.processes.explainer import RemoteExplainer
from service.processes.memory import SharedMemory
from service.processes.metrics import shared_metrics
from service.processes.remote import RemoteScheduler
from service.processes.remote_faces import RemoteFaceNetwork
from service.processes.spec import CONNECTION, ENGINE, EXPLAINER, READY, RemoteBackend, Spec, receive
from service.processes.usage import ClientHash, SharedDetection, SharedPlaces, SharedUsage, SharedWindow
from service.runtime import tune_memory
from service.server import Server, server
from service.server import run as serve

_log = logging.getLogger("manet.front_end")

_AT_ONCE = 64
"""Messages of the supervisor that are taken before the loop goes round."""


class CountedConnections(set[Any]):
    """The connections of a front end; the supervisor, which knows how many it handed over, sees how many have ended.

    Args:
        gone: of all front ends.
        front_end: this one's number.
    """

    def __init__(self, gone: "memoryview[int]", front_end: int) -> None:
        super().__init__()
        self._gone = gone
        self._own = front_end
        self._made = 0

    def add(self, connection: Any) -> None:
        """Take one in; a websocket takes the place of the connection that it was before."""
        super().add(connection)
        self._made += isinstance(connection, BoundedProtocol)
        self._gone[self._own] = self._made - len(self)

    def discard(self, connection: Any) -> None:
        """Count one as ended."""
        super().discard(connection)
        self._gone[self._own] = self._made - len(self)

    def lose(self) -> None:
        """Count one as ended that was never taken in."""
        self._made += 1
        self._gone[self._own] = self._made - len(self)


class FrontEndServer(Server):
    """The HTTP server of a front end: the supervisor accepts its connections and tells it when to stop.

    Args:
        config: of uvicorn.
        number: of the front end.
        memory: that of all processes.
        control: to the supervisor.
        remote: the scheduler.
        faces: stands for the detector's network, where that is in the engine's process.
        engine: the first sockets to the engine's process.
        explainer: stands for the explainer's process.
        detection: reports this front end's detector to the others.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        number: int,
        memory: SharedMemory,
        control: socket.socket,
        remote: RemoteScheduler,
        faces: RemoteFaceNetwork | None,
        engine: list[socket.socket],
        explainer: RemoteExplainer,
        detection: SharedDetection,
    ) -> None:
        super().__init__(config)
        self._number = number
        self._beats = memory.beats
        self._control = control
        self._remote = remote
        self._faces = faces
        self._engine = engine
        self._explainer = explainer
        self._detection = detection
        self._accepting: set[asyncio.Task[Any]] = set()
        self._connections = CountedConnections(memory.counts["gone"], number)
        self.server_state.connections = self._connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, listen to the supervisor alone, and say that this process is up."""
        self._connect(self._engine)
        await super().startup(sockets=[])
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._take)
        self._control.send(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was admitted; then no one looks for faces any more."""
        await super().shutdown(sockets)
        if self._faces is not None:
            self._faces.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Go on: the supervisor, which takes the same signals, says when to stop."""

    async def on_tick(self, counter: int) -> bool:
        """Show, ten times a second, that the event loop runs; look whether to stop."""
        self._beats[self._number] += 1
        self._detection.publish()
        return await super().on_tick(counter)

    def _connect(self, ends: list[socket.socket]) -> None:
        """Use a new engine process: faces go through the first socket, canvases through the second."""
        if self._faces is not None:
            self._faces.connect(ends[1])
        self._remote.connect(ends[0])

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                message, ends = receive(self._control)
            except BlockingIOError:
                return
            if message.startswith(ENGINE):
                self._connect(ends)
            elif message == EXPLAINER:
                self._explainer.connect(ends[0])
            elif message == CONNECTION and ends:
                self._accept(ends[0])
            elif message == CONNECTION:
                self._connections.lose()
                _log.error("a connection was lost: too many files are open")
            else:  # the supervisor stops, or is gone
                asyncio.get_running_loop().remove_reader(self._control)
                self._drain()
                return

    def _drain(self) -> None:
        assert isinstance(self.config.app, FastAPI)
        self.config.app.state.service.admission.draining = True
        self.should_exit = True

    def _accept(self, connection: socket.socket) -> None:
        """Serve a connection that the supervisor accepted."""
        state = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
        protocol = partial(self.config.http_protocol_class, **state)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(protocol, connection))
        self._accepting.add(task)
        task.add_done_callback(self._accepted)

    def _accepted(self, task: asyncio.Task[Any]) -> None:
        self._accepting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._connections.lose()
            _log.info("a connection ended before it began: %s", error)


def _parts(
    spec: Spec, number: int, *, remote: RemoteScheduler, explainer: RemoteExplainer, detection: SharedDetection
) -> SharedParts:
    """Return what a front end shares with the others."""
    memory, settings, clients = spec.memory, spec.settings, ClientHash(spec.secret)

    def places(kind: str, held: "list[memoryview[int]]") -> SharedPlaces:
        return SharedPlaces(held, memory.counts[kind], front_end=number, clients=clients)

    rate = None if settings.rate_limit is None else limits.parse(settings.rate_limit)
    return SharedParts(
        scheduler=remote,
        explainer=explainer,
        metrics=shared_metrics(memory, number),
        usage=SharedUsage(memory, number),
        requests=places("requests", memory.requests),
        streams=places("streams", memory.streams),
        window=None if rate is None else SharedWindow(rate, memory, front_end=number, clients=clients),
        detection=detection.of,
    )


def run(spec: Spec, control: socket.socket, number: int) -> None:
    """Be a front end, until the supervisor says so or is gone.

    Args:
        spec: what all processes have in common.
        control: to the supervisor.
        number: which front end this is, from 0.
    """
    silence_pillow_warnings()
    settings, clock, memory = spec.settings, SystemClock(), spec.memory
    faces = None if spec.load.faces is None else RemoteFaceNetwork(memory, number)
    detector: FaceDetector
    if faces is None:
        detector = spec.load.detector(settings)
    else:
        detector = RetinaFaceDetector(faces, small_faces=settings.small_faces)
    explainer = RemoteExplainer()
    control.setblocking(True)
    message, ends = receive(control)
    while message == EXPLAINER:
        explainer.connect(ends[0])
        message, ends = receive(control)
    if not message:
        return  # the supervisor stops, or is gone
    backend = RemoteBackend(**json.loads(message.removeprefix(ENGINE)))
    policy = BatchPolicy(settings.max_batch_size, settings.batch_timeout)
    remote = RemoteScheduler(memory, number, policy=policy, clock=clock)
    detection = SharedDetection(memory, number)
    parts = _parts(spec, number, remote=remote, explainer=explainer, detection=detection)
    app = create_app(settings, Recognizer(spec.weights, backend, detector), clock, shared=parts)
    make = partial(
        FrontEndServer,
        number=number,
        memory=memory,
        control=control,
        remote=remote,
        faces=faces,
        engine=ends,
        explainer=explainer,
        detection=detection,
    )
    serving = server(app, settings, make)
    tune_memory()
    serve(serving)
