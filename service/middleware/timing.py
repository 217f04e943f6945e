"""Middleware around every request; pure ASGI, so that a client's hang-up still reaches the handler."""

import itertools
import re
import secrets
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.clock import Clock


class RequestObserver(Protocol):
    """Who is told of every request."""

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""


HUNG_UP = 499
"""Counted where a client left before its answer began; no such status is ever sent."""


class Stopwatch:
    """Times requests by route; a path that no route has is ``other``."""

    def __init__(self, app: ASGIApp, *, clock: Clock, observer: RequestObserver) -> None:
        self._app = app
        self._clock = clock
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = self._clock.now(), HUNG_UP

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._observer.answered(route, status, self._clock.now() - began)


REQUEST_ID = "x-request-id"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestId:
    """Gives every answer the id that its request came with, or a new one where it has none that is short and plain.

    A new one is a random name of this process and a number, which costs a request less than randomness of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._process = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and mark its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        own = given if _PLAIN.fullmatch(given) else f"{self._process}-{next(self._numbers)}"

        async def marking(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = own
            await send(message)

        await self._app(scope, receive, marking)
