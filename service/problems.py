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
from service.schemas import Problem

_log = logging.getLogger("manet.problems")

MEDIA_TYPE = "application/problem+json"


def problem(status: HTTPStatus, kind: str, title: str, detail: str, headers: dict[str, str]) -> JSONResponse:
    """Return a problem as a response."""
    body = Problem(type=NAMESPACE + kind, title=title, status=status, detail=detail)
    return JSONResponse(body.model_dump(), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def described(error: ServiceError | PictureError | BatchingError) -> Problem:
    """Return the problem that an error is, for an answer that has others beside it."""
    known = error if isinstance(error, ServiceError) else translate(error)
    return Problem(type=NAMESPACE + known.problem, title=known.title, status=known.status, detail=known.detail)


def answer(error: ServiceError) -> JSONResponse:
    """Return the response that an error of the service is."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem(error.status, error.problem, error.title, error.detail, headers)


def documented(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """Return errors as the contract shows them; those of one status share an entry."""
    titles: dict[int | str, list[str]] = {}
    for error in errors:
        titles.setdefault(int(error.status), []).append(f"{error.title} (`{NAMESPACE}{error.problem}`).")
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": " ".join(lines), "content": content} for status, lines in titles.items()}


def install(app: FastAPI) -> None:
    """Make every error of an application a problem."""

    @app.exception_handler(ServiceError)
    async def _service(_request: Request, error: ServiceError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(PictureError)
    @app.exception_handler(BatchingError)
    async def _below(_request: Request, error: PictureError | BatchingError) -> JSONResponse:
        return answer(translate(error))

    @app.exception_handler(RequestValidationError)
    async def _parameters(_request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(InvalidParameter("; ".join(_sentences(error.errors()))))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        kind = status.phrase.lower().replace(" ", "-")
        return problem(status, kind, status.phrase, status.description or status.phrase, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _unforeseen(_request: Request, error: Exception) -> JSONResponse:
        # The server logs the traceback; the client learns nothing of it.
        _log.error("an unforeseen %s; this is a defect of the service", type(error).__name__)
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return problem(status, "internal-error", "The service failed", "this is a defect of the service", {})


def _sentences(errors: Iterable[Any]) -> list[str]:
    """Return what is wrong with the parameters, without what was sent."""
    return [f"{'.'.join(map(str, error['loc'][1:]))}: {error['msg']}" for error in errors]
