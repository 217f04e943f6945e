"""Tensors: faces out of the bytes of an inference request, and outputs into the bytes of its answer.

JSON, with tensors inside it or, by the protocol's binary tensor data extension, behind it: then the header
``Inference-Header-Content-Length`` tells where the JSON ends.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from pydantic_core import from_json

from manet.vision.preprocess import Pixels
from service.errors import InvalidTensorError, MalformedRequestError, PayloadTooLargeError
from service.schemas.v2 import (
    InferenceRequest,
    InferenceResponse,
    Parameters,
    RequestInput,
    RequestOutput,
    ResponseOutput,
)

JSON_LENGTH = "Inference-Header-Content-Length"
IMAGES = "images"
OUTPUTS = ("probabilities", "logits")

_MOST_JSON = 2 * 1024 * 1024
"""Bytes of JSON: it is read in one go, while no one else is served, and as objects takes many times its length."""


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """What an inference request asks.

    Attributes:
        id: to be given back, or None.
        images: uint8 (N, S, S, 3), at least one.
        outputs: the names of the outputs that are wanted, in order, and whether each is wanted as bytes.
    """

    id: str | None
    images: Pixels
    outputs: Mapping[str, bool]


def largest_body(json_length: int | None, *, side: int, most: int) -> int:
    """Return the most bytes that a request can need; the arguments are those of ``read_tensor_request``."""
    return _MOST_JSON if json_length is None else _MOST_JSON + most * side * side * 3


def read_tensor_request(body: bytearray, json_length: int | None, *, side: int, most: int) -> TensorRequest:
    """Return what a request asks.

    Args:
        body: the whole body, as it is once it was unpacked.
        json_length: how many bytes of it are JSON; None means all.
        side: of the network's input.
        most: faces, at most.

    Raises:
        MalformedRequestError: if there is no JSON object in it, or one that is no inference request.
        PayloadTooLargeError: if it has more JSON than is read.
        InvalidTensorError: if it has or wants a tensor that the model does not take or give.
    """
    length = len(body) if json_length is None else json_length
    if length > len(body):
        raise MalformedRequestError(f"{JSON_LENGTH} is {length}, but the body has {len(body)} bytes")
    if length > _MOST_JSON:
        raise PayloadTooLargeError(
            f"{length} bytes are JSON; at most {_MOST_JSON} are read, so send tensors as binary data"
        )
    request = _parse(bytes(memoryview(body)[:length]))
    [given] = request.inputs
    binary = memoryview(body)[length:]
    _check(given, side, most)
    size = given.parameters.get("binary_data_size")
    if size is None and binary:
        raise InvalidTensorError(f"{len(binary)} bytes follow the JSON, but the input has no binary_data_size")
    data = _values(given.data, given.shape) if size is None else _bytes(binary, size, given)
    images = np.frombuffer(data, np.uint8).reshape(given.shape)
    return TensorRequest(request.id, images, _wanted(request))


def write_answer(
    question: TensorRequest, outputs: Mapping[str, npt.NDArray[np.float32]], *, model: str, version: str
) -> tuple[bytes, int | None]:
    """Return the body of the answer, and how many bytes of it are JSON where others follow.

    Args:
        question: what was asked.
        outputs: float32 (N, classes) by name, finite.
        model: the name of the model that answers.
        version: its version.
    """
    described = [_output(name, outputs[name], binary) for name, binary in question.outputs.items()]
    answer = InferenceResponse(model_name=model, model_version=version, id=question.id, outputs=described)
    head = answer.model_dump_json(exclude_none=True).encode()
    tail = [outputs[name].astype("<f4").tobytes() for name, binary in question.outputs.items() if binary]
    return b"".join([head, *tail]), len(head) if tail else None


def _parse(text: bytes) -> InferenceRequest:
    try:
        return InferenceRequest.model_validate(from_json(text, allow_inf_nan=False))
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, wrong["loc"])) or "the request"
        raise MalformedRequestError(f"no inference request: {where}: {wrong['msg']}") from None
    except ValueError as error:
        raise MalformedRequestError(f"no JSON: {error}") from None


def _check(given: RequestInput, side: int, most: int) -> None:
    if given.name != IMAGES:
        raise InvalidTensorError(f"the model takes the input {IMAGES!r}, and no other")
    if given.datatype != "UINT8":
        raise InvalidTensorError(f"the input {IMAGES!r} has the datatype UINT8, and no other")
    if len(given.shape) != 1 + 3 or given.shape[1:] != [side, side, 3] or given.shape[0] < 1:
        raise InvalidTensorError(
            f"the input {IMAGES!r} has the shape [N, {side}, {side}, 3] with N at least 1, and no other"
        )
    if given.shape[0] > most:
        raise InvalidTensorError(f"the input has {given.shape[0]} faces; at most {most} are taken in one request")
    _refuse_unknown(given.parameters, "binary_data_size", "an input")


def _bytes(binary: memoryview, size: Any, given: RequestInput) -> memoryview:
    """Return the bytes behind the JSON, if they are as many as they should be by every account."""
    if given.data is not None:
        raise InvalidTensorError("the input has both data and binary_data_size")
    needed = math.prod(given.shape)
    if type(size) is not int or size != needed:
        raise InvalidTensorError(f"binary_data_size must be {needed}, as the shape and the datatype say")
    if len(binary) != needed:
        raise InvalidTensorError(f"{len(binary)} bytes follow the JSON; binary_data_size is {needed}")
    return binary


def _values(data: Any, shape: Sequence[int]) -> bytes:
    """Return the values that stand in the JSON, nested as the shape says or flat."""
    if not isinstance(data, list):
        raise InvalidTensorError("the input has neither a list as data nor binary_data_size")
    if data and isinstance(data[0], list):
        _check_rows([data], shape[0])
        for size in shape[1:]:
            _check_rows(data, size)
            data = list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise InvalidTensorError(f"data has {len(data)} values; the shape needs {math.prod(shape)}")
    if set(map(type, data)) != {int}:
        raise InvalidTensorError("data must hold whole numbers from 0 to 255, and nothing else")
    try:
        return bytes(data)
    except (ValueError, OverflowError):
        raise InvalidTensorError("data must hold whole numbers from 0 to 255, and nothing else") from None


def _check_rows(rows: Iterable[Any], size: int) -> None:
    if not all(isinstance(row, list) and len(row) == size for row in rows):
        raise InvalidTensorError("data is nested, but not as the shape says")


def _wanted(request: InferenceRequest) -> Mapping[str, bool]:
    default = _flag(request.parameters, "binary_data_output", otherwise=False)
    wanted: dict[str, bool] = {}
    for output in request.outputs or [RequestOutput(name=name) for name in OUTPUTS]:
        if output.name not in OUTPUTS:
            raise InvalidTensorError(f"the model gives the outputs {' and '.join(OUTPUTS)}, and no other")
        if output.name in wanted:
            raise InvalidTensorError(f"the output {output.name} is requested twice")
        _refuse_unknown(output.parameters, "binary_data", "an output")
        wanted[output.name] = _flag(output.parameters, "binary_data", otherwise=default)
    return wanted


def _flag(parameters: Parameters, name: str, *, otherwise: bool) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise InvalidTensorError(f"the parameter {name} must be true or false")
    return value


def _refuse_unknown(parameters: Parameters, known: str, of: str) -> None:
    """Refuse what would change where a tensor lies or what it means, such as shared memory or classification."""
    if parameters.keys() - {known}:
        raise InvalidTensorError(f"the only parameter of {of} that is known here is {known}")


def _output(name: str, values: npt.NDArray[np.float32], binary: bool) -> ResponseOutput:
    size = {"binary_data_size": values.nbytes} if binary else None
    data = None if binary else values.ravel().tolist()
    return ResponseOutput(name=name, datatype="FP32", shape=values.shape, parameters=size, data=data)
