"""Explain: a picture in, and for each face what the network went by."""

import asyncio
import base64
import io
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from PIL import Image as Picture
from pydantic import Field

from manet.drawing import draw_explanation
from manet.explanation import Explanation, PatchName, record
from manet.labels import Expression
from service import errors
from service.connection import while_connected
from service.contract import form, succeeded
from service.explanations import Explained
from service.parts import Parts, parts
from service.problems import documented
from service.routes.predict import HOST, PICTURE, Mode
from service.schemas import Face, Image, Share, _Answer
from service.upload import largest_size, read_pictures

router = APIRouter(tags=["explain"])

MOST_FACES = 4
"""Faces that are explained where a request names no other number; each takes the time of some ten predictions."""

Grid = Annotated[list[list[float]], Field(description="Rows of numbers, from the upper left of the face.")]
Png = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"})]


class Vote(_Answer):
    """What one of the two branches says by itself, and where it read it."""

    expression: Expression
    """The branch's own most probable expression."""
    confidence: Share
    """Its probability."""
    probabilities: dict[Expression, Share]
    """The fused ones are both branches' weighted geometric mean, scaled to sum to 1."""
    score: float
    """Of the explained expression: its logit less the mean of the branch's logits."""
    bias: float
    """What is added to the score wherever one looks; `evidence` and `bias` sum to it."""
    evidence: Grid
    """What each position adds to the score, in logits; below zero where it speaks against the expression (Grad-CAM)."""


class Patch(_Answer):
    """One of the four quarters of the face, each of which the local module sees alone."""

    name: PatchName
    """Left and right are the picture's."""
    evidence: float
    """What its positions add to the local branch's score, in logits."""
    share: Share
    """Its part in what the four patches say for the expression; they sum to 1, or are all 0 where none does."""
    attention: Share
    """The mean of its spatial gate (CBAM): how much the local module lets through there."""


class Overlays(_Answer):
    """Pictures of 320 x 320 px: the face as the network saw it, and each map over it."""

    face: Png
    """Aligned and reduced; without a map."""
    local: Png
    """The local branch's evidence: red speaks for the explained expression, blue against it."""
    multi_scale: Png
    """The multi-scale branch's evidence, likewise."""
    attention: Png
    """The local module's attention: bright where it lets through, dark where not."""


class FaceExplanation(_Answer):
    """What the network went by in one face."""

    expression: Expression
    """The explained one: the answered one, or the one that was asked for."""
    fusion_weight: Share
    """The local branch's part in the answer."""
    local: Vote
    multi_scale: Vote
    patches: list[Patch]
    """The four quarters of the face, row by row."""
    attention: Grid
    """The spatial gates of the four patches, put together; 0 to 1."""
    overlays: Overlays | None
    """Null where the request asked for none."""


class ExplainedFace(Face):
    """A face, its apparent expression as `/predict` answers it, and why."""

    explanation: FaceExplanation


class ExplainedPicture(_Answer):
    """What one picture shows, and why."""

    model: str
    """Id of the weights that answered."""
    image: Image
    faces: list[ExplainedFace]
    """The largest first; empty when no face was found."""


@router.post(
    "/explain",
    operation_id="explain",
    summary="What the network went by in each face of one picture",
    openapi_extra=form("image", PICTURE, curl=f"curl -F image=@face.jpg {HOST}/explain"),
    responses=succeeded("The faces, their apparent expressions, and what the network went by.")
    | documented(
        errors.MalformedRequest,
        errors.UploadTimedOut,
        errors.PayloadTooLarge,
        errors.UnsupportedPicture,
        errors.InvalidParameter,
        errors.BrokenPicture,
        errors.Overloaded,
        errors.InternalError,
        errors.ExplanationsUnavailable,
        errors.NotReady,
        errors.Draining,
        errors.DeadlineExceeded,
    ),
)
async def explain(
    request: Request,
    *,
    parts: Annotated[Parts, Depends(parts)],
    faces: Mode = "detect",
    max_faces: Annotated[int, Query(ge=1, description="The most faces to explain, the largest first.")] = MOST_FACES,
    expression: Annotated[
        Expression | None, Query(description="Explain this expression instead of the answered one.")
    ] = None,
    overlays: Annotated[bool, Query(description="Whether to send the maps as pictures, too.")] = True,
) -> ExplainedPicture:
    """Tell each branch's own vote, what each quarter of the face adds to it, and where the evidence lies.

    The maps come as numbers and, unless `overlays=false`, as PNG in base64; `data:image/png;base64,` before one makes
    it the source of an `img`. Explanations are made one after the other; the first after a start takes seconds longer.
    """
    settings = parts.settings
    size = largest_size(request, settings.max_upload_bytes)
    with parts.admission.receive(size) as upload, parts.explanations.place(expression) as place:
        limit, seconds = settings.max_upload_bytes, settings.upload_timeout
        [data] = await read_pictures(request, upload, "image", most=1, limit=limit, seconds=seconds)
        with parts.admission.admit(upload) as ticket:
            work = parts.explanations.explain(
                data, ticket, place, faces=faces, max_faces=min(max_faces, settings.max_faces), expression=expression
            )
            found = await while_connected(request, work)
            return await asyncio.to_thread(_answer, found, parts.recognizer.weights.id, overlays)


def _answer(found: Explained, model: str, overlays: bool) -> ExplainedPicture:
    return ExplainedPicture(
        model=model,
        image=Image(width=found.width, height=found.height),
        faces=[_face(one, overlays) for one in found.faces],
    )


def _face(explanation: Explanation, overlays: bool) -> ExplainedFace:
    drawn = None
    if overlays:
        drawn = Overlays(**{name: _png(picture) for name, picture in draw_explanation(explanation).items()})
    told = FaceExplanation(**record(explanation), overlays=drawn)
    return ExplainedFace(**dict(Face.of(explanation.answer)), explanation=told)


def _png(picture: Picture.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
