"""Server: an application behind a socket, with uvicorn; how its process is tuned, and how it ends."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.http.protocol import ConnectionBounds, bounded
from service.http.websocket import WebSocketProtocol
from service.observability.log_filters import logging_config
from service.settings import Settings

LISTENERS = 8
"""Connections that are taken in a round of the loop: libuv takes one from each listener (its pull request 3696), and
under full load, when rounds are long, new clients would stand in the kernel's line and not even hear of a refusal."""


class Server(uvicorn.Server):
    """Uvicorn, with what a stop needs: not ready from the signal on, status 0 in the end, and an end without a signal.

    Uvicorn raises a signal that it caught once more when it is done, so that the process would seem killed by it.

    Attributes:
        lost: whether it ended because the service can never answer again.
    """

    lost = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, several times on each socket; on ``::`` for IPv4, too, which asyncio leaves out."""
        await super().startup(sockets)
        loop, config = asyncio.get_running_loop(), self.config
        state = {"config": config, "server_state": self.server_state, "app_state": self.lifespan.state}
        connected: Callable[[], asyncio.Protocol] = partial(config.http_protocol_class, **state)
        if config.host == "::" and sockets is None:
            port = self.servers[0].sockets[0].getsockname()[1]
            self.servers.append(await loop.create_server(connected, "0.0.0.0", port, backlog=config.backlog))
        for listening in [found for server in self.servers for found in server.sockets]:
            for _ in range(LISTENERS - 1):
                again = socket.fromfd(listening.fileno(), listening.family, listening.type)
                self.servers.append(await loop.create_server(connected, sock=again, backlog=config.backlog))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: refuse what is new, finish what was admitted. A second signal does not wait."""
        app = self.config.app
        if isinstance(app, FastAPI):
            app.state.service.admission.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether to stop."""
        app = self.config.app
        if isinstance(app, FastAPI) and app.state.service.scheduler.dead:
            self.lost = True
            app.state.service.admission.draining = True
            return True
        return await super().on_tick(counter)


def server(app: FastAPI, settings: Settings, kind: Callable[[uvicorn.Config], Server] = Server) -> Server:
    """Return the HTTP server of an application, made by ``kind``."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        log_config=logging_config(settings.log_level, settings.access_log),
        access_log=settings.access_log,
        timeout_graceful_shutdown=settings.shutdown_timeout,
        server_header=False,
        proxy_headers=False,  # the application believes those that are trusted
        http=bounded(app.state.service.metrics, _bounds(settings)),
        ws=WebSocketProtocol,
        ws_max_size=min(settings.max_frame_bytes, settings.max_upload_bytes),
        ws_per_message_deflate=False,  # frames are compressed images, and answers are small
    )
    return kind(config)


def _bounds(settings: Settings) -> ConnectionBounds:
    return ConnectionBounds(
        max_head_bytes=settings.max_head_bytes,
        max_target_bytes=settings.max_target_bytes,
        max_head_fields=settings.max_head_fields,
        head_timeout=settings.head_timeout,
        max_pipelined_requests=settings.max_pipelined_requests,
    )


def run(serving: Server) -> None:
    """Serve until a signal comes, which ends with status 0, or the service is lost, which ends with status 1.

    Raises:
        SystemExit: with status 3 if it did not start.
    """
    serving.run()
    if serving.lost:
        logging.shutdown()
        os._exit(1)  # at once: a network or a detector that hangs in a thread would hold up an orderly end for ever
    if not serving.started:
        raise SystemExit(3)
