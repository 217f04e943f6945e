"""Problems: every error as ``application/problem+json`` (RFC 9457), from one place."""

import inspect
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manet.errors import ImageError
from service.batching.errors import BatchingError
from service.errors import (
    NAMESPACE,
    RETRIED,
    InternalError,
    InvalidParameterError,
    MalformedRequestError,
    MethodNotAllowedError,
    PathNotFoundError,
    ServiceError,
    translate,
)
from service.middleware.timing import CLIENT_CLOSED_REQUEST
from service.openapi.document import MEDIA_TYPE, REQUEST_ID, RETRY_AFTER, Responses
from service.schemas.predict import Problem
from service.schemas.v2 import InferenceProblem

_log = logging.getLogger("manet.problems")


_BY_STATUS = {kind.status: kind for kind in (MalformedRequestError, PathNotFoundError, MethodNotAllowedError)}
"""What the framework's own errors mean."""


def described(error: ServiceError | ImageError | BatchingError) -> Problem:
    """Return the problem that an error is, for an answer that has others beside it."""
    known = error if isinstance(error, ServiceError) else translate(error)
    return Problem(type=NAMESPACE + known.problem, title=known.title, status=known.status, detail=known.detail)


INFERENCE = "/v2"
"""Where the Open Inference Protocol begins: below it a problem also has the member that the protocol's clients read."""


def answer(error: ServiceError, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response that an error of the service is to a request for that path, with further headers."""
    retry = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    body = described(error).model_dump()
    if path == INFERENCE or path.startswith(f"{INFERENCE}/"):
        body = InferenceProblem(**body, error=error.detail).model_dump()
    return JSONResponse(body, status_code=error.status, media_type=MEDIA_TYPE, headers={**(headers or {}), **retry})


async def refuse(
    error: ServiceError, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str] | None = None
) -> None:
    """Answer a request, or the handshake of a websocket, with an error of the service and further headers."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})  # such a server answers with a bare 403
        return
    await answer(error, scope["path"], headers)(scope, receive, send)


def documented(*errors: type[ServiceError], model: type[Problem] = Problem) -> Responses:
    """Return errors as the contract shows them, by what their answers hold; those of one status share an entry."""
    by_status: dict[HTTPStatus, list[type[ServiceError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {int(status): _documented(status, kinds, model) for status, kinds in by_status.items()}


def _documented(status: HTTPStatus, kinds: Sequence[type[ServiceError]], model: type[Problem]) -> dict[str, Any]:
    path = INFERENCE if model is InferenceProblem else ""
    bodies = {kind: json.loads(bytes(answer(kind(_meaning(kind)), path).body)) for kind in kinds}
    shown = {kind.problem: {"summary": kind.title, "value": body} for kind, body in bodies.items()}
    return {
        "description": " ".join(f"{kind.title} (`{NAMESPACE}{kind.problem}`)." for kind in kinds),
        "headers": {**REQUEST_ID, **(RETRY_AFTER if status in RETRIED else {})},
        "model": model,
        "content": {MEDIA_TYPE: {"examples": shown}},
    }


def _meaning(kind: type[ServiceError]) -> str:
    """Return the first line of an error's docstring."""
    return (inspect.getdoc(kind) or kind.title).partition("\n")[0]


def table() -> str:
    """Return every kind of problem as a table in Markdown."""
    kinds = sorted(_kinds(ServiceError), key=lambda kind: (kind.status, kind.problem))
    rows = [f"| {int(kind.status)} | `{NAMESPACE}{kind.problem}` | {_meaning(kind)} |" for kind in kinds]
    return "\n".join(["| status | type | meaning |", "| --- | --- | --- |", *rows])


def _kinds(root: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for kind in root.__subclasses__():
        if "problem" in vars(kind):
            yield kind
        yield from _kinds(kind)


def install(app: FastAPI) -> None:
    """Make every error of an application a problem; middleware that is to see them is added after this."""
    app.add_middleware(UnhandledErrorMiddleware)

    @app.exception_handler(ServiceError)
    async def _service(request: Request, error: ServiceError) -> JSONResponse:
        return answer(error, request.url.path)

    @app.exception_handler(ImageError)
    @app.exception_handler(BatchingError)
    async def _below(request: Request, error: ImageError | BatchingError) -> JSONResponse:
        return answer(translate(error), request.url.path)

    @app.exception_handler(RequestValidationError)
    async def _parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(InvalidParameterError("; ".join(_sentences(error.errors()))), request.url.path)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        kind = _BY_STATUS.get(status, InternalError)
        return answer(kind(status.description or status.phrase), request.url.path, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def _hung_up(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)  # no one is there to read it; it is for the metrics


class UnhandledErrorMiddleware:
    """Answers unexpected exceptions, inside of all middleware that sees answers on their way out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; an error that comes back becomes a problem, unless an answer has begun."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            # The log has the traceback; the client learns nothing of it.
            _log.exception("an unexpected %s; this is a defect of the service", type(error).__name__)
            await answer(InternalError("this is a defect of the service"), scope["path"])(scope, receive, send)


def _sentences(errors: Iterable[Any]) -> list[str]:
    """Return what is wrong with the parameters, without what was sent."""
    return [f"{'.'.join(map(str, error['loc'][1:]))}: {error['msg']}" for error in errors]
