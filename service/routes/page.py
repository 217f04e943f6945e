"""Page: what a person opens, and the files that it is made of."""

import functools
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""What the page may do: load and ask this service, and nothing else; no script is ever made from a string."""

_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        "Cache-Control": "no-cache",  # kept, and requested again by its ETag: no file is ever of another release
    }
)

_TYPES = MappingProxyType({".js": "text/javascript"})
"""What `mimetypes` tells differently from machine to machine; a module of another type is not run."""


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str
    """Of the content alone, so that every process of a deployment gives the same."""


@functools.cache
def _files() -> Mapping[str, _File]:
    """Return the files by name; read once, about 100 KB."""
    found = {}
    for entry in resources.files("service").joinpath("web").iterdir():
        content = entry.read_bytes()
        suffix = entry.name[entry.name.rindex(".") :]
        media_type = _TYPES.get(suffix) or mimetypes.types_map[suffix]
        found[entry.name] = _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return MappingProxyType(found)


def _answer(request: Request, name: str) -> Response:
    file = _files().get(name)
    if file is None:
        raise HTTPException(404)
    headers = {**_HEADERS, "ETag": file.etag}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Return the page."""
    return _answer(request, "page.html")


@router.api_route("/web/{name}", methods=["GET", "HEAD"])
async def file(request: Request, name: str) -> Response:
    """Return a file of the page."""
    return _answer(request, name)
