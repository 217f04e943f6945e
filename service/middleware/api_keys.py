"""Keys: who may send pictures; kept as hashes, told apart by number."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.errors import Unauthorized

OPEN = ("/", "/docs", "/openapi.json", "/favicon.ico")
"""Paths that need no key: the page, and what tells how to use the service."""
OPEN_BELOW = ("/web/", "/docs/", "/static-offline-docs/", "/health/", "/v2/health/")
"""Likewise everything below these: their files, and the probes."""

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the service has any."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, otherwise sent."},
}

CLIENT = "manet.client"
"""Where the scope of a request says whose key it has."""

OWNER = "key "
"""What the names of keys' owners begin with."""

PROTOCOL = "manet.key."
"""What a subprotocol begins with that carries a key, in base64url without padding (RFC 4648, section 5): a browser can
set no header of a websocket but that one."""

_KEY = re.compile(r"[!-~]{16,}")


class Keys:
    """The keys that are known.

    Args:
        keys: each at least 16 visible ASCII characters.

    Raises:
        ValueError: if one is not; it is not named.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        known = list(dict.fromkeys(keys))
        if not all(map(_KEY.fullmatch, known)):
            raise ValueError("an API key has at least 16 characters, visible ASCII and no spaces; one has not")
        self._digests = [_digest(key) for key in known]

    def __len__(self) -> int:
        return len(self._digests)

    def owner(self, presented: str) -> str | None:
        """Return a name for a key, such as ``key 1``, or None if it is not known.

        Hashes are compared, all of them and each in constant time, so that the time tells nothing of any key.
        """
        digest = _digest(presented)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return f"{OWNER}{matches.index(True) + 1}" if any(matches) else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("latin-1", "replace")).digest()


def read_keys(listed: Iterable[str], file: Path | None) -> Keys:
    """Return the keys that are listed and those in a file: one a line; empty lines and those with ``#`` do not count.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds no key, or one of the keys is none.
    """
    lines = [] if file is None else [line.strip() for line in file.read_text().splitlines()]
    filed = [line for line in lines if line and not line.startswith("#")]
    if file is not None and not filed:
        raise ValueError("the file of API keys holds none")
    return Keys([*listed, *filed])


class KeyDoor:
    """Lets requests pass that carry a known key, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.

    Websockets may also carry it as a subprotocol, which goes no further than here. Others are
    answered with 401 before a byte of their body is read; only what ``OPEN`` names needs no key.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys) -> None:
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
            await problems.refuse(Unauthorized(f"the request {lacking}"), scope, receive, send, challenge)
            return
        known = {**scope, CLIENT: owner}
        if scope["type"] == "websocket":
            known["subprotocols"] = [name for name in scope["subprotocols"] if not name.startswith(PROTOCOL)]
        await self._app(known, receive, send)


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


def describe_keys(app: FastAPI, *, needed: bool) -> None:
    """Show in the contract of an application how a key is sent, and if it is needed, where."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        contract = plain()  # made once, and kept by the application
        contract.setdefault("components", {})["securitySchemes"] = _SCHEMES
        if needed:
            guarded = [methods for path, methods in contract["paths"].items() if not is_open(path)]
            for operation in (operation for methods in guarded for operation in methods.values()):
                operation["security"] = [{name: []} for name in _SCHEMES]
        return contract

    app.openapi = described  # type: ignore[method-assign]
