"""SecurityHeadersMiddleware: the headers that forbid browsers what no answer needs."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
_RAW = tuple((name.lower().encode(), value.encode()) for name, value in ALWAYS.items())

_PAGE = {
    "default-src": "'self'",
    "img-src": "'self' blob: data:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
# Swagger UI starts from a script in its page, whose text depends on where the service is mounted, and sets styles.
# Nothing that a client sends is shown there before that client's browser sends it.
_REFERENCE = {**_PAGE, "script-src": "'self' 'unsafe-inline'", "style-src": "'self' 'unsafe-inline'"}


def _policy(directives: dict[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in directives.items())


PAGE, REFERENCE = _policy(_PAGE), _policy(_REFERENCE)
"""The Content-Security-Policy of a page of ours, and of the reference below ``/docs``."""


class SecurityHeadersMiddleware:
    """Adds them to every answer, and to pages a Content-Security-Policy unless they bring their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and mark its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def marking(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                if any(name == b"content-type" and value.startswith(b"text/html") for name, value in headers):
                    _mark_page(MutableHeaders(scope=message), scope["path"])
                else:
                    message["headers"] = [*headers, *_RAW]
            await send(message)

        await self._app(scope, receive, marking)


def _mark_page(headers: MutableHeaders, path: str) -> None:
    """Add what a page lacks; one that brings its own knows better."""
    policy = REFERENCE if path.startswith("/docs") else PAGE
    for name, value in {**ALWAYS, "Content-Security-Policy": policy}.items():
        headers.setdefault(name, value)
