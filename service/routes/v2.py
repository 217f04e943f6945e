"""V2: the Open Inference Protocol over the same network: face crops as tensors in, logits and probabilities out."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import WithJsonSchema

import manet
from manet.backends.base import Logits
from manet.recognizer import FaceInput, Recognizer
from manet.weights.entry import Weights
from service import errors
from service.http.body import read_body, size_in_memory
from service.http.compression import PLAIN, pack, preferred
from service.http.disconnect import cancel_on_disconnect
from service.openapi.document import STAGES, reference, succeeded
from service.problems import INFERENCE, documented
from service.routes.health import check_ready
from service.schemas.v2 import (
    InferenceProblem,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from service.schemas.v2_codec import IMAGES, JSON_LENGTH, OUTPUTS, largest_body, read_tensor_request, write_answer
from service.state import ServiceState, state

_OCTETS = "application/octet-stream"
_REFUSALS = (
    errors.MalformedRequestError,
    errors.InvalidTensorError,
    errors.UploadTimedOutError,
    errors.PayloadTooLargeError,
    errors.UnsupportedEncodingError,
    errors.OverloadedError,
    errors.FaceFailedError,
    errors.NotReadyError,
    errors.DrainingError,
    errors.DeadlineExceededError,
)

_CROP = FaceInput(None, np.empty((0, 0, 3), np.uint8))
"""A face of which nothing is known but that it was taken as a whole."""

_LENGTH = {"type": "integer", "minimum": 0}
_HEAD = {JSON_LENGTH: {"description": "Bytes of JSON, where tensors follow it.", "schema": _LENGTH}}

Length = Annotated[
    int | None,
    # FastAPI would show the null, which a header cannot send.
    WithJsonSchema(_LENGTH),
    Header(alias=JSON_LENGTH, ge=0, description="Bytes of JSON, where a tensor follows it."),
]
WithState = Annotated[ServiceState, Depends(state)]


def _open(*possible: type[errors.ServiceError]) -> dict[int | str, dict[str, Any]]:
    """Return what is answered where no key is requested, and no one's requests are counted."""
    return documented(*possible, errors.InternalError, model=InferenceProblem)


def _documented(*possible: type[errors.ServiceError]) -> dict[int | str, dict[str, Any]]:
    return _open(*possible, errors.UnauthorizedError, errors.RateLimitedError)


def _question() -> dict[str, Any]:
    """Return the body of an inference as the contract shows it; the handler reads it itself, after it was admitted."""
    octets = {"schema": {"type": "string", "format": "binary"}}
    json = {"schema": reference(InferenceRequest)}
    return {"requestBody": {"required": True, "content": {"application/json": json, _OCTETS: octets}}}


def version_of(weights: Weights) -> str:
    """Return the version of a model: the first twelve digits of its file's SHA-256, so that it tells files apart."""
    return "1" if weights.sha256 is None else weights.sha256[:12]


def _named(model: Annotated[str, Path(description="Id of the weights that are loaded.")], state: WithState) -> None:
    weights = state.recognizer.weights
    if model != weights.id:
        raise errors.UnknownModelError(f"the model that is loaded is {weights.id!r}")


def _versioned(version: Annotated[str, Path(description="As the model's metadata has it.")], state: WithState) -> None:
    weights = state.recognizer.weights
    if version != version_of(weights):
        raise errors.UnknownModelError(f"the version of {weights.id!r} that is loaded is {version_of(weights)!r}")


router = APIRouter(prefix=INFERENCE, tags=["v2"], responses=_documented())
probes = APIRouter(prefix=f"{INFERENCE}/health", tags=["v2"], responses=_open())


@router.get("", operation_id="getInferenceServer", summary="What server is this?", responses=succeeded("What it is."))
async def server() -> ServerMetadata:
    """Return the name and version of the server, and the extensions of the protocol that it has."""
    return ServerMetadata(name="manet", version=manet.__version__, extensions=("binary_tensor_data",))


@probes.get(
    "/live",
    operation_id="getInferenceServerLive",
    summary="Does the process run?",
    responses=succeeded("It runs."),
)
async def live() -> ServerLive:
    """Answer as long as the process runs, as `/health/live` does."""
    return ServerLive(live=True)


@probes.get(
    "/ready",
    operation_id="getInferenceServerReady",
    summary="Does it answer?",
    responses=succeeded("It answers.") | _open(errors.NotReadyError),
)
async def ready(state: WithState) -> ServerReady:
    """Answer 200 as long as the network has completed a batch lately, as `/health/ready` does."""
    check_ready(state)
    return ServerReady(ready=True)


async def metadata(state: WithState) -> ModelMetadata:
    """Return the tensors of the model; the classes along an output's last axis are in its `labels`."""
    weights, backend = state.recognizer.weights, state.recognizer.backend
    side, labels = weights.preprocessing.input_size, {"labels": ",".join(weights.classes)}
    images = TensorMetadata(name=IMAGES, datatype="UINT8", shape=(-1, side, side, 3))
    outputs = [
        TensorMetadata(name=name, datatype="FP32", shape=(-1, len(weights.classes)), parameters=labels)
        for name in OUTPUTS
    ]
    return ModelMetadata(
        name=weights.id,
        versions=(version_of(weights),),
        platform=f"{backend.name}_{backend.precision}",
        inputs=(images,),
        outputs=tuple(outputs),
    )


async def model_ready(state: WithState) -> ModelReady:
    """Answer 200 as long as the model is loaded and has completed a batch lately."""
    check_ready(state)
    return ModelReady(name=state.recognizer.weights.id, ready=True)


async def infer(
    request: Request,
    state: WithState,
    json_length: Length = None,
    accept_encoding: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Answer a batch of face crops, RGB of the model's side, as `manet.vision.preprocess.network_input` makes them.

    `logits` are the fused logits, `probabilities` the calibrated ones that `/predict` answers with. Tensors travel in
    the JSON or, by the protocol's binary tensor data extension, behind it; the JSON itself may have two mebibytes, so
    that large batches want the extension. A body may be compressed by gzip or deflate.
    Each face is admitted by itself; where one is refused, all are.
    """
    settings, recognizer = state.settings, state.recognizer
    side, most = recognizer.weights.preprocessing.input_size, settings.max_batch_images
    limit = min(settings.max_batch_bytes, largest_body(json_length, side=side, most=most))
    with ExitStack() as places:
        upload = places.enter_context(state.admission.receive(size_in_memory(request, limit)))
        body = await read_body(request, upload, limit=limit, seconds=settings.upload_timeout)
        question = read_tensor_request(body, json_length, side=side, most=most)
        tickets = [places.enter_context(state.admission.admit(upload)) for _ in question.images]
        for ticket in tickets:
            ticket.leave()
        work = state.scheduler.submit(list(question.images), deadline=tickets[0].deadline)  # on a lane of its own
        answered = await cancel_on_disconnect(request, work)
    state.metrics.recognized(len(question.images))
    outputs = {"logits": np.stack(answered.logits), "probabilities": _probabilities(recognizer, answered.logits)}
    weights = recognizer.weights
    content, head = write_answer(question, outputs, model=weights.id, version=version_of(weights))
    timing = f"queue;dur={1e3 * answered.queued:.1f}, infer;dur={1e3 * answered.inferred:.1f}"
    return _response(content, head, preferred(accept_encoding), {"Server-Timing": timing})


def _probabilities(recognizer: Recognizer, logits: Sequence[Logits]) -> npt.NDArray[np.float32]:
    """Return what the logits of each face, (classes,), say, (N, classes)."""
    faces = [recognizer.read(_CROP, row) for row in logits]
    return np.array([list(face.probabilities.values()) for face in faces], np.float32)


def _response(content: bytes, head: int | None, coding: str, headers: dict[str, str]) -> Response:
    """Return the answer; ``head`` of its bytes are JSON where others follow."""
    headers = {**headers, "Vary": "Accept-Encoding"}
    if head is not None:
        headers[JSON_LENGTH] = str(head)
    if coding != PLAIN:
        headers["Content-Encoding"] = coding
    return Response(pack(content, coding), headers=headers, media_type="application/json" if head is None else _OCTETS)


def _add_model(path: str, suffix: str, *checks: Callable[..., None]) -> None:
    """Add the routes of the model below a path; the suffix tells their operation ids apart."""
    depends = [Depends(check) for check in checks]
    known = (errors.UnknownModelError, errors.InvalidParameterError)
    router.add_api_route(
        path,
        metadata,
        dependencies=depends,
        operation_id=f"getInferenceModel{suffix}",
        summary="What does the model take and give?",
        responses=succeeded("What it takes and gives.") | _documented(*known),
    )
    router.add_api_route(
        f"{path}/ready",
        model_ready,
        dependencies=depends,
        operation_id=f"getInferenceModelReady{suffix}",
        summary="Does the model answer?",
        responses=succeeded("It answers.") | _documented(*known, errors.NotReadyError),
    )
    answered = succeeded("The outputs, in JSON or behind it.", {**STAGES, **_HEAD})
    answered[200]["content"] = {_OCTETS: {"schema": {"type": "string", "format": "binary"}}}
    router.add_api_route(
        f"{path}/infer",
        infer,
        dependencies=depends,
        methods=["POST"],
        operation_id=f"infer{suffix}",
        summary="Logits and probabilities of face crops",
        response_model=InferenceResponse,
        responses=answered | _documented(*known, *_REFUSALS),
        openapi_extra=_question(),
    )


_add_model("/models/{model}", "", _named)
_add_model("/models/{model}/versions/{version}", "Version", _named, _versioned)
