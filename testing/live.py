"""Live: an application behind a socket, in a thread of the test's own process, so that both ends can be looked at."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from service.http.protocol import ConnectionBounds, bounded
from service.http.websocket import WebSocketProtocol
from service.state import ServiceState


@dataclass(frozen=True)
class Live:
    """A served application."""

    app: FastAPI
    server: uvicorn.Server

    @property
    def port(self) -> int:
        number: int = self.server.servers[0].sockets[0].getsockname()[1]
        return number

    @property
    def connected(self) -> int:
        """Connections that are open."""
        return len(self.server.server_state.connections)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> ServiceState:
        found: ServiceState = self.app.state.service
        return found

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def count(self, route: str, status: int) -> float:
        """Return how many requests were answered so."""
        labels = {"route": route, "status": str(status)}
        return self.state.metrics.registry.get_sample_value("manet_requests_total", labels) or 0.0

    def at_rest(self) -> bool:
        """Return whether the service holds nothing for a request."""
        admission, scheduler = self.state.admission, self.state.scheduler
        return admission.uploads == admission.images == admission.bytes == scheduler.depth == 0


@contextlib.contextmanager
def running_in_a_thread(server: uvicorn.Server) -> Iterator[None]:
    """Let a server serve while inside."""
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive(), "the server did not stop"


@contextlib.contextmanager
def live(app: FastAPI, bounds: ConnectionBounds | None = None) -> Iterator[Live]:
    """Serve an application on a free port while inside."""
    http = bounded(app.state.service.metrics, bounds or ConnectionBounds())
    config = uvicorn.Config(app, host="127.0.0.1", port=0, http=http, ws=WebSocketProtocol, log_config=None)
    server = uvicorn.Server(config)
    with running_in_a_thread(server):
        yield Live(app, server)


def until(reached: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
