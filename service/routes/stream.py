"""Stream: live video over a websocket, frames in, faces and their tracks out. ``docs/stream.md`` tells how.

A client that is not authorised is answered before the handshake ends, with an HTTP status. One that comes at a bad time
is accepted and closed with a code, as a browser can read no status there.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket

from manet.tracking import Tracker, TrackingRules
from service.errors import OverloadedError
from service.inference.stream_session import DRAINING, FULL, NOT_READY, CloseReason, StreamSession
from service.middleware.rate_limit import FRAME_LIMITER, client_of
from service.state import ServiceState, state_of

router = APIRouter()

PROTOCOL = "manet.stream"
"""The subprotocol of what is said here; a browser that offers another one beside it must hear this one."""

CLOSE_TIMEOUT = 2.0
"""Seconds that a client gets to take the reason for its end."""


@router.websocket("/stream")
async def stream(
    websocket: WebSocket,
    max_faces: Annotated[int | None, Query(ge=1)] = None,
    half_life: Annotated[float, Query(ge=0, le=60)] = TrackingRules().half_life,
) -> None:
    """Answer the newest frame of a client until it leaves."""
    state = state_of(websocket)
    if not is_allowed(websocket.headers.get("origin"), websocket.headers.get("host"), state.settings.cors_origins):
        await websocket.close()  # before it is accepted: the handshake is answered with 403
        return
    await websocket.accept(PROTOCOL if PROTOCOL in websocket.scope["subprotocols"] else None)
    try:
        with state.streams.entering(client_of(websocket.scope)):
            ended = _untimely(state) or await _session(websocket, state, max_faces, half_life).run()
    except OverloadedError:
        ended = FULL
    if ended is not None:
        await _close(websocket, ended)


def is_allowed(origin: str | None, host: str | None, allowed: Sequence[str]) -> bool:
    """Return whether a page of that origin may stream: the service's own, one that is allowed, or none at all.

    Browsers ask no leave of a server before they open a websocket (RFC 6455, section 10.2), so it looks itself. Of the
    own origin only host and port are compared: behind a proxy that ends TLS, the scheme is not known.
    """
    return origin is None or origin.partition("://")[2] == host or origin in allowed or "*" in allowed


def _untimely(state: ServiceState) -> CloseReason | None:
    if state.admission.draining:
        return DRAINING
    return None if state.admission.ready else NOT_READY


def _session(websocket: WebSocket, state: ServiceState, max_faces: int | None, half_life: float) -> StreamSession:
    settings = state.settings
    return StreamSession(
        websocket,
        admission=state.admission,
        predictor=state.predictor,
        gate=websocket.scope.get(FRAME_LIMITER, nullcontext),
        tracker=Tracker(TrackingRules(half_life=half_life)),
        clock=state.clock,
        observer=state.metrics,
        model=state.recognizer.weights.id,
        max_faces=min(max_faces or settings.max_faces, settings.max_faces),
        idle_timeout=settings.stream_idle_timeout,
    )


async def _close(websocket: WebSocket, ended: CloseReason) -> None:
    with contextlib.suppress(TimeoutError, RuntimeError, OSError):  # of a client that is gone, or does not read
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await websocket.close(ended.code, ended.reason)
