"""Predict: a picture in, its faces and their apparent expressions out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from starlette.requests import ClientDisconnect

from manet.recognizer import FaceMode
from service import errors
from service.parts import Parts, parts
from service.problems import documented
from service.schemas import Face, Image, Prediction
from service.upload import FIELD, largest_size, read_picture_field

router = APIRouter(tags=["predict"])

T = TypeVar("T")

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "string",
                            "format": "binary",
                            "description": "One picture: JPEG, PNG, WebP or BMP.",
                        }
                    },
                }
            }
        },
    }
}
"""The body, described here because the handler reads it itself, after it was let in."""


@router.post(
    "/predict",
    operation_id="predict",
    summary="Apparent expressions of the faces in one picture",
    openapi_extra=_FORM,
    responses=documented(
        errors.MalformedRequest,
        errors.UploadTimedOut,
        errors.PayloadTooLarge,
        errors.UnsupportedPicture,
        errors.InvalidParameter,
        errors.BrokenPicture,
        errors.Overloaded,
        errors.FaceFailed,
        errors.NotReady,
        errors.Draining,
        errors.DeadlineExceeded,
    ),
)
async def predict(
    request: Request,
    parts: Annotated[Parts, Depends(parts)],
    faces: Annotated[FaceMode, Query(description="Look for faces, or take the picture as the crop of one.")] = "detect",
    max_faces: Annotated[int | None, Query(ge=1, description="The most faces to answer, the largest first.")] = None,
) -> Prediction:
    """Find the faces in a picture and name the apparent expression of each, with a probability for every class."""
    settings = parts.settings
    most = settings.max_faces if max_faces is None else min(max_faces, settings.max_faces)
    size = largest_size(request, settings.max_upload_bytes)
    with parts.admission.admit(size) as ticket:
        data = await read_picture_field(request, limit=settings.max_upload_bytes, seconds=settings.deadline)
        work = parts.predictor.predict(data, ticket, faces=faces, max_faces=most)
        found = await _while_connected(request, work)
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
