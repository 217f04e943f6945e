"""Timing: how long each request took, by route."""

from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.clock import Clock


class RequestObserver(Protocol):
    """Notified of every request."""

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""


CLIENT_CLOSED_REQUEST = 499
"""Counted where a client left before its answer began; no such status is ever sent."""


class TimingMiddleware:
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
        began, status = self._clock.now(), CLIENT_CLOSED_REQUEST

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
