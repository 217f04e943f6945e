"""Problems: every error as ``application/problem+json`` (RFC 9457), from one place."""

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from manet.errors import PictureError
from service.batching.errors import BatchingError
from service.errors import NAMESPACE, InvalidParameter, ServiceError, translate
from service.protocol import InferenceProblem
from service.schemas import Problem

_log = logging.getLogger("manet.problems")

MEDIA_TYPE = "application/problem+json"


INFERENCE = "/v2"
"""Where the Open Inference Protocol begins: below it a problem also has the member that the protocol's clients read."""


def problem(
    status: HTTPStatus, kind: str, title: str, detail: str, headers: dict[str, str], *, path: str = ""
) -> JSONResponse:
    """Return a problem as a response to a request for that path."""
    body = Problem(type=NAMESPACE + kind, title=title, status=status, detail=detail)
    if path == INFERENCE or path.startswith(f"{INFERENCE}/"):
        body = InferenceProblem(**body.model_dump(), error=detail)
    return JSONResponse(body.model_dump(), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def described(error: ServiceError | PictureError | BatchingError) -> Problem:
    """Return the problem that an error is, for an answer that has others beside it."""
    known = error if isinstance(error, ServiceError) else translate(error)
    return Problem(type=NAMESPACE + known.problem, title=known.title, status=known.status, detail=known.detail)


def answer(error: ServiceError, *, path: str = "") -> JSONResponse:
    """Return the response that an error of the service is to a request for that path."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem(error.status, error.problem, error.title, error.detail, headers, path=path)


def documented(*errors: type[ServiceError], schema: type[Problem] = Problem) -> dict[int | str, dict[str, Any]]:
    """Return errors as the contract shows them, in the form of that schema; those of one status share an entry."""
    titles: dict[int | str, list[str]] = {}
    for error in errors:
        titles.setdefault(int(error.status), []).append(f"{error.title} (`{NAMESPACE}{error.problem}`).")
    content = {MEDIA_TYPE: {"schema": schema.model_json_schema()}}
    return {status: {"description": " ".join(lines), "content": content} for status, lines in titles.items()}


def install(app: FastAPI) -> None:
    """Make every error of an application a problem."""

    @app.exception_handler(ServiceError)
    async def _service(request: Request, error: ServiceError) -> JSONResponse:
        return answer(error, path=request.scope["path"])

    @app.exception_handler(PictureError)
    @app.exception_handler(BatchingError)
    async def _below(request: Request, error: PictureError | BatchingError) -> JSONResponse:
        return answer(translate(error), path=request.scope["path"])

    @app.exception_handler(RequestValidationError)
    async def _parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(InvalidParameter("; ".join(_sentences(error.errors()))), path=request.scope["path"])

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        kind = status.phrase.lower().replace(" ", "-")
        detail, headers = status.description or status.phrase, dict(error.headers or {})
        return problem(status, kind, status.phrase, detail, headers, path=request.scope["path"])

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
        # The server logs the traceback; the client learns nothing of it.
        _log.error("an unforeseen %s; this is a defect of the service", type(error).__name__)
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        detail = "this is a defect of the service"
        return problem(status, "internal-error", "The service failed", detail, {}, path=request.scope["path"])


def _sentences(errors: Iterable[Any]) -> list[str]:
    """Return what is wrong with the parameters, without what was sent."""
    return [f"{'.'.join(map(str, error['loc'][1:]))}: {error['msg']}" for error in errors]
