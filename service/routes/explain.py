"""Explain: an image in, and for each face what the network went by."""

import asyncio
import base64
import io
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from PIL import Image as PILImage
from pydantic import WithJsonSchema

from manet.explain.overlays import draw_explanation
from manet.explain.result import Explanation, record
from manet.labels import Expression
from service import errors
from service.http.body import size_in_memory
from service.http.disconnect import cancel_on_disconnect
from service.http.upload import read_image
from service.inference.explainer import Explained
from service.openapi.document import image_body, succeeded
from service.problems import documented
from service.routes.predict import HOST, IMAGE, Mode, most_faces
from service.schemas.explain import ExplainedFace, ExplainedImage, FaceExplanation, Overlays
from service.schemas.predict import EncodedImage, Face, Image
from service.state import ServiceState, state

router = APIRouter(tags=["explain"])

MOST_FACES = 4
"""Faces that are explained where a request names no other number; each takes the time of some ten predictions."""


@router.post(
    "/explain",
    operation_id="explain",
    summary="What the network went by in each face of one image",
    openapi_extra=image_body("image", IMAGE, EncodedImage, curl=f"curl -F image=@face.jpg {HOST}/explain"),
    responses=succeeded("The faces, their apparent expressions, and what the network went by.")
    | documented(
        errors.MalformedRequestError,
        errors.UploadTimedOutError,
        errors.PayloadTooLargeError,
        errors.UnsupportedImageError,
        errors.UnsupportedEncodingError,
        errors.InvalidParameterError,
        errors.BrokenImageError,
        errors.OverloadedError,
        errors.RateLimitedError,
        errors.InternalError,
        errors.ExplanationsUnavailableError,
        errors.NotReadyError,
        errors.DrainingError,
        errors.DeadlineExceededError,
    ),
)
async def explain(
    request: Request,
    *,
    state: Annotated[ServiceState, Depends(state)],
    faces: Mode = "detect",
    max_faces: Annotated[
        int | None,
        WithJsonSchema({"type": "integer", "minimum": 1, "default": MOST_FACES}),
        Query(ge=1, description="The most faces to explain, the largest first."),
    ] = None,
    expression: Annotated[
        Expression | None,
        WithJsonSchema({"type": "string", "enum": list(Expression)}),
        Query(description="Explain this expression instead of the answered one."),
    ] = None,
    overlays: Annotated[bool, Query(description="Whether to send the maps as images, too.")] = True,
) -> ExplainedImage:
    """Return each branch's own vote, what each quarter of the face adds to it, and where the evidence lies.

    The maps come as numbers and, unless `overlays=false`, as PNG in base64; `data:image/png;base64,` before one makes
    it the source of an `img`. Explanations are made one after the other; the first after a start takes seconds longer.
    """
    settings = state.settings
    most = min(MOST_FACES, settings.max_faces) if max_faces is None else most_faces(max_faces, settings.max_faces)
    size = size_in_memory(request, settings.max_upload_bytes)
    with state.admission.receive(size) as upload, state.explanations.place(expression) as place:
        limit, seconds = settings.max_upload_bytes, settings.upload_timeout
        data = await read_image(request, upload, "image", limit=limit, seconds=seconds)
        with state.admission.admit(upload) as ticket:
            work = state.explanations.explain(data, ticket, place, faces=faces, max_faces=most, expression=expression)
            found = await cancel_on_disconnect(request, work)
            return await asyncio.to_thread(_answer, found, state.recognizer.weights.id, overlays)


def _answer(found: Explained, model: str, overlays: bool) -> ExplainedImage:
    return ExplainedImage(
        model=model,
        image=Image(width=found.width, height=found.height),
        faces_total=found.faces_total,
        faces=[_face(one, overlays) for one in found.faces],
    )


def _face(explanation: Explanation, overlays: bool) -> ExplainedFace:
    drawn = None
    if overlays:
        drawn = Overlays(**{name: _png(image) for name, image in draw_explanation(explanation).items()})
    explained = FaceExplanation(**record(explanation), overlays=drawn)
    return ExplainedFace(**dict(Face.of(explanation.answer)), explanation=explained)


def _png(image: PILImage.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
