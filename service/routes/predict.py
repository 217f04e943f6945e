"""Predict: pictures in, their faces and the faces' apparent expressions out."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import WithJsonSchema
from starlette.requests import ClientDisconnect

from manet.errors import PictureError
from manet.recognizer import FaceMode
from service import errors
from service.batching.errors import BatchingError
from service.contract import SERVER_TIMING, form, succeeded
from service.parts import Parts, parts
from service.predictor import Recognized
from service.problems import described, documented
from service.schemas import Face, Image, Prediction, Predictions, Row
from service.settings import Settings
from service.upload import largest_size, read_pictures

router = APIRouter(tags=["predict"])

T = TypeVar("T")


_PICTURE = {"type": "string", "format": "binary", "description": "One picture: JPEG, PNG, WebP or BMP."}
_HOST = "http://127.0.0.1:8000"
_REFUSALS = (
    errors.MalformedRequest,
    errors.UploadTimedOut,
    errors.PayloadTooLarge,
    errors.InvalidParameter,
    errors.Overloaded,
    errors.NotReady,
    errors.Draining,
)
"""Errors that keep a request out."""

Mode = Annotated[FaceMode, Query(description="Look for faces, or take the picture as the crop of one.")]
Most = Annotated[
    int | None,
    # FastAPI would show the null, which a query cannot send, and lose the bound.
    WithJsonSchema({"type": "integer", "minimum": 1, "examples": [3]}),
    Query(ge=1, description="The most faces to answer in a picture, the largest first."),
]


@router.post(
    "/predict",
    operation_id="predict",
    summary="Apparent expressions of the faces in one picture",
    openapi_extra=form("image", _PICTURE, curl=f"curl -F image=@face.jpg {_HOST}/predict"),
    responses=succeeded("The faces and their apparent expressions.", SERVER_TIMING)
    | documented(
        *_REFUSALS,
        errors.UnsupportedPicture,
        errors.BrokenPicture,
        errors.FaceFailed,
        errors.InternalError,
        errors.DeadlineExceeded,
    ),
)
async def predict(
    request: Request,
    response: Response,
    parts: Annotated[Parts, Depends(parts)],
    faces: Mode = "detect",
    max_faces: Most = None,
) -> Prediction:
    """Find the faces in a picture and name the apparent expression of each, with a probability for every class.

    The header `Server-Timing` tells the milliseconds spent on decoding and detection (`find`), in the queue (`queue`)
    and in the network (`infer`).
    """
    settings = parts.settings
    size = largest_size(request, settings.max_upload_bytes)
    with parts.admission.receive(size) as upload:
        limit, seconds = settings.max_upload_bytes, settings.upload_timeout
        [data] = await read_pictures(request, upload, "image", most=1, limit=limit, seconds=seconds)
        with parts.admission.admit(upload) as ticket:
            most = _most(max_faces, settings)
            work = parts.predictor.predict(data, ticket, client=parts.predictor.client(), faces=faces, max_faces=most)
            found = await _while_connected(request, work)
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={1e3 * s:.1f}" for name, s in found.seconds.items())
    return _prediction(found, parts)


@router.post(
    "/predict/batch",
    operation_id="predictBatch",
    summary="Apparent expressions of the faces in many pictures",
    openapi_extra=form(
        "images",
        {"type": "array", "minItems": 1, "items": _PICTURE},
        curl=f"curl -F images=@one.jpg -F images=@two.jpg {_HOST}/predict/batch",
    ),
    responses=succeeded("A prediction or a problem for each picture.") | documented(*_REFUSALS),
)
async def predict_batch(
    request: Request, parts: Annotated[Parts, Depends(parts)], faces: Mode = "detect", max_faces: Most = None
) -> Predictions:
    """Answer each picture with a prediction or a problem, in their order; a bad picture spoils its own row only.

    Each picture is let in by itself, as if it had come alone, and this request takes turns with others.
    """
    settings, predictor = parts.settings, parts.predictor
    size = largest_size(request, settings.max_batch_bytes)
    with parts.admission.receive(size) as upload:
        limit, seconds, most = settings.max_batch_bytes, settings.upload_timeout, settings.max_batch_pictures
        pictures = await read_pictures(request, upload, "images", most=most, limit=limit, seconds=seconds)
        client, most_faces = predictor.client(), _most(max_faces, settings)

        async def row(data: bytes) -> Row:
            try:
                with parts.admission.admit(upload) as ticket:
                    found = await predictor.predict(data, ticket, client=client, faces=faces, max_faces=most_faces)
            except (errors.ServiceError, PictureError, BatchingError) as error:
                return Row(problem=described(error))
            return Row(prediction=_prediction(found, parts))

        return Predictions(results=await _while_connected(request, _all(map(row, pictures))))


async def _all(rows: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the outcomes of work that is done side by side; if one fails, or the caller leaves, all are ended."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(row) for row in rows]
    return [task.result() for task in tasks]


def _most(asked: int | None, settings: Settings) -> int:
    return settings.max_faces if asked is None else min(asked, settings.max_faces)


def _prediction(found: Recognized, parts: Parts) -> Prediction:
    return Prediction(
        model=parts.recognizer.weights.id,
        image=Image(width=found.width, height=found.height),
        faces=[Face.of(face) for face in found.faces],
    )


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the outcome of some work, unless the client hangs up first: then the work is cancelled.

    Raises:
        ClientDisconnect: if the client hung up.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        # Whatever did not end by itself, here or because this very request was cancelled, is ended now.
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
