"""Predict: images in, their faces and the faces' apparent expressions out."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import WithJsonSchema

from manet.errors import ImageError
from manet.recognizer import FaceMode
from manet.vision.formats import ONE_OF_THE_FORMATS
from service import errors
from service.batching.errors import BatchingError
from service.http.body import size_in_memory
from service.http.disconnect import cancel_on_disconnect
from service.http.upload import read_image, read_images
from service.inference.predictor import PredictionResult
from service.openapi.document import SERVER_TIMING, form, image_body, succeeded
from service.problems import described, documented
from service.schemas.predict import EncodedImage, Face, Image, Prediction, Predictions, Row
from service.state import ServiceState, state_of

router = APIRouter(tags=["predict"])

T = TypeVar("T")


IMAGE = {"type": "string", "format": "binary", "description": f"One image: {ONE_OF_THE_FORMATS}."}
HOST = "http://127.0.0.1:8000"
_REFUSALS = (
    errors.MalformedRequestError,
    errors.UploadTimedOutError,
    errors.PayloadTooLargeError,
    errors.UnsupportedEncodingError,
    errors.InvalidParameterError,
    errors.OverloadedError,
    errors.RateLimitedError,
    errors.NotReadyError,
    errors.DrainingError,
)
"""Errors that keep a request out."""

_MODES = (
    "`detect` looks for faces, `small` also for small ones, down to 1/70 of the longest side, in five times the time; "
    "`whole` takes the image as the crop of one face."
)
Mode = Annotated[FaceMode, Query(description=_MODES)]
Most = Annotated[
    int | None,
    # FastAPI would show the null, which a query cannot send, and lose the bound.
    WithJsonSchema({"type": "integer", "minimum": 1, "examples": [3]}),
    Query(ge=1, description="The most faces to answer in an image, the largest first."),
]


@router.post(
    "/predict",
    operation_id="predict",
    summary="Apparent expressions of the faces in one image",
    response_model=Prediction,
    openapi_extra=image_body("image", IMAGE, EncodedImage, curl=f"curl -F image=@face.jpg {HOST}/predict"),
    responses=succeeded("The faces and their apparent expressions.", SERVER_TIMING)
    | documented(
        *_REFUSALS,
        errors.UnsupportedImageError,
        errors.BrokenImageError,
        errors.DetectionFailedError,
        errors.FaceFailedError,
        errors.InternalError,
        errors.DetectorUnavailableError,
        errors.DeadlineExceededError,
    ),
)
async def predict(request: Request, faces: Mode = "detect", max_faces: Most = None) -> Response:
    """Find the faces in an image and name the apparent expression of each, with a probability for every class.

    The image comes in a form, as the body itself, or in JSON in base64. The body may be compressed with gzip or
    deflate.

    The header `Server-Timing` has the milliseconds spent on decoding and detection (`find`), in the queue (`queue`)
    and in the network (`infer`).
    """
    state = state_of(request)
    settings = state.settings
    most = most_faces(max_faces, settings.max_faces)
    size = size_in_memory(request, settings.max_upload_bytes)
    with state.admission.receive(size) as upload:
        limit, seconds = settings.max_upload_bytes, settings.upload_timeout
        data = await read_image(request, upload, "image", limit=limit, seconds=seconds)
        with state.admission.admit(upload) as ticket:
            work = state.predictor.predict(data, ticket, client=state.predictor.client(), faces=faces, max_faces=most)
            found = await cancel_on_disconnect(request, work)
    # A response of its own: FastAPI would check once more what was made to fit.
    body = _prediction(found, state).model_dump_json()
    return Response(body, media_type="application/json", headers={"Server-Timing": _timing(found)})


@router.post(
    "/predict/batch",
    operation_id="predictBatch",
    summary="Apparent expressions of the faces in many images",
    openapi_extra=form(
        "images",
        # `contains`: at least one. With `minItems` a Go client of openapi-generator's does not compile.
        {"type": "array", "contains": IMAGE, "items": IMAGE},
        curl=f"curl -F images=@one.jpg -F images=@two.jpg {HOST}/predict/batch",
    ),
    responses=succeeded("A prediction or a problem for each image.") | documented(*_REFUSALS),
)
async def predict_batch(request: Request, faces: Mode = "detect", max_faces: Most = None) -> Predictions:
    """Answer each image with a prediction or a problem, in their order; a bad image spoils its own row only.

    The form's field may also be called `images[]`, or `images[0]` and so on. The body may be compressed with gzip or
    deflate.

    Each image is admitted by itself, as if it had come alone, and this request takes turns with others.
    """
    state = state_of(request)
    settings, predictor = state.settings, state.predictor
    most_each = most_faces(max_faces, settings.max_faces)
    size = size_in_memory(request, settings.max_batch_bytes)
    with state.admission.receive(size) as upload:
        limit, seconds, most = settings.max_batch_bytes, settings.upload_timeout, settings.max_batch_images
        images = await read_images(request, upload, "images", most=most, limit=limit, seconds=seconds)
        client = predictor.client()

        async def row(data: bytes) -> Row:
            try:
                with state.admission.admit(upload) as ticket:
                    found = await predictor.predict(data, ticket, client=client, faces=faces, max_faces=most_each)
            except (errors.ServiceError, ImageError, BatchingError) as error:
                return Row(problem=described(error))
            return Row(prediction=_prediction(found, state))

        return Predictions(results=await cancel_on_disconnect(request, _all(map(row, images))))


async def _all(rows: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the outcomes of work that is done side by side; if one fails, or the caller leaves, all are ended."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(row) for row in rows]
    return [task.result() for task in tasks]


def most_faces(requested: int | None, bound: int) -> int:
    """Return how many faces an image is answered with at most.

    Raises:
        InvalidParameterError: if more are requested than the server answers.
    """
    if requested is not None and requested > bound:
        raise errors.InvalidParameterError(f"max_faces: this server answers at most {bound} faces in an image")
    return bound if requested is None else requested


def _prediction(found: PredictionResult, state: ServiceState) -> Prediction:
    return Prediction(
        model=state.recognizer.weights.id,
        image=Image(width=found.width, height=found.height),
        faces_total=found.faces_total,
        faces=[Face.of(face) for face in found.faces],
    )


def _timing(found: PredictionResult) -> str:
    """Return the value of the header Server-Timing (W3C Server Timing), in milliseconds."""
    return ", ".join(f"{name};dur={1e3 * seconds:.1f}" for name, seconds in found.seconds.items())
