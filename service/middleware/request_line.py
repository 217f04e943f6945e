"""The request line: HEAD wherever GET is, and paths behind a prefix."""

import re
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.settings import PREFIX

_DOCUMENTS = ("/docs", "/openapi.json")
"""Paths whose answers name other paths of the service."""

_SCOPE_KEY = "manet.prefix"


class HeadMiddleware:
    """Answers HEAD as GET would be answered, without the content (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a HEAD request on as a GET, and its answer without its content."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_content(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, without_content)


class PrefixMiddleware(ProxyHeadersMiddleware):
    """Serves below a path prefix, and believes what trusted proxies say: client, scheme, prefix.

    A proxy may strip the prefix or leave it. Everything behind this sees paths without it, so that no middleware and
    no route can take one path for two.

    Args:
        app: what is behind it.
        prefix: of all paths, such as ``/faces``; empty is none. A trusted proxy's ``X-Forwarded-Prefix`` goes before.
        trusted: addresses or networks of proxies.
    """

    def __init__(self, app: Any, *, prefix: str, trusted: list[str]) -> None:
        super().__init__(app, trusted)
        self._prefix = prefix

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on without its prefix."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        prefix, path = self._prefix_of(scope), scope["path"]
        if prefix:
            scope[_SCOPE_KEY] = prefix
            if path == prefix or path.startswith(f"{prefix}/"):
                scope["path"] = path = path.removeprefix(prefix) or "/"
            if path in _DOCUMENTS:
                scope["root_path"] = prefix  # where FastAPI looks for it
        await super().__call__(scope, receive, send)

    def _prefix_of(self, scope: Scope) -> str:
        client = scope.get("client")
        if client is None or client[0] not in self.trusted_hosts:
            return self._prefix
        forwarded = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
        return forwarded if forwarded and re.fullmatch(PREFIX, forwarded) else self._prefix


def prefix_of(scope: Scope) -> str:
    """Return the prefix that stands before the service's paths in the client's eyes; empty if there is none."""
    found: str = scope.get(_SCOPE_KEY, "")
    return found
