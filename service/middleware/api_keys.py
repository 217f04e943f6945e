"""API keys: requests that need one are answered only if they carry a known one."""

import base64
import binascii

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.errors import UnauthorizedError
from service.keys import KeyStore

OPEN = ("/", "/docs", "/openapi.json", "/favicon.ico")
"""Paths that need no key: the page and the documentation."""
OPEN_BELOW = ("/web/", "/docs/", "/static-offline-docs/", "/health/", "/v2/health/")
"""Likewise everything below these: their files, and the probes."""

CLIENT = "manet.client"
"""Where the scope of a request says whose key it has."""

PROTOCOL = "manet.key."
"""What a subprotocol begins with that carries a key, in base64url without padding (RFC 4648, section 5): a browser can
set no header of a websocket but that one."""


class ApiKeyMiddleware:
    """Lets requests pass that carry a known key, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.

    Websockets may also carry it as a subprotocol, which goes no further than here. Others are
    answered with 401 before a byte of their body is read; only what ``OPEN`` names needs no key.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyStore) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        presented = _presented(scope)
        owner = None if presented is None else self._keys.owner(presented)
        if owner is None:
            lacking = "has no API key" if presented is None else "has an API key that is not known"
            challenge = {"WWW-Authenticate": 'Bearer realm="manet"'}  # RFC 9110, section 11.6.1
            await problems.refuse(UnauthorizedError(f"the request {lacking}"), scope, receive, send, challenge)
            return
        scope[CLIENT] = owner  # in this very scope, where the route is noted, too, for those around
        if scope["type"] == "websocket":
            scope["subprotocols"] = [name for name in scope["subprotocols"] if not name.startswith(PROTOCOL)]
        await self._app(scope, receive, send)


def is_open(path: str) -> bool:
    """Return whether a path needs no key."""
    return path in OPEN or path.startswith(OPEN_BELOW)


def _presented(scope: Scope) -> str | None:
    headers = Headers(scope=scope)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    offered = [name.removeprefix(PROTOCOL) for name in scope.get("subprotocols", ()) if name.startswith(PROTOCOL)]
    return headers.get("x-api-key", _decoded(offered[0]) if offered else None)


def _decoded(key: str) -> str:
    """Return a key out of its subprotocol; what is no base64url is no key either."""
    try:
        return base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)).decode("ascii", "replace")
    except (binascii.Error, ValueError):
        return ""
