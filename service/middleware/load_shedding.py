"""Load shedding: images are rejected before anything is done for them, so that a full service serves what it has."""

from collections.abc import Collection
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from service.admission import Admission
from service.errors import ServiceError
from service.problems import answer


@dataclass(frozen=True, slots=True)
class RejectedRoute:
    """What stands in a request's scope in the place of the route that it never came to, for the metrics.

    Attributes:
        path: of that route.
    """

    path: str


class LoadSheddingMiddleware:
    """Asks admission before the request is even routed; the routes ask again, with the body's size.

    A refusal costs a third of what it does from inside a handler.

    Args:
        app: what is behind it.
        admission: knows whether images are admitted.
        paths: of the routes that take images.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission, paths: Collection[str]) -> None:
        self._app = app
        self._admission = admission
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or reject it."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._paths:
            try:
                self._admission.check()
            except ServiceError as error:
                scope["route"] = RejectedRoute(scope["path"])
                await answer(error, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)
