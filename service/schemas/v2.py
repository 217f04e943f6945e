"""Protocol: the JSON objects of the Open Inference Protocol (KServe's version 2, REST), as its clients see them.

Source: kserve/open-inference-protocol, ``specification/protocol/inference_rest.md``. What the protocol leaves open is
read generously: fields and parameters of a request that are not named here are passed over.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

from service.schemas.predict import Problem

Parameters = dict[str, Any]
"""Named values; which names have a meaning is documented where they are used."""

Size = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _ResponseModel(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ServerLive(_ResponseModel):
    """Whether the process runs."""

    live: bool


class ServerReady(_ResponseModel):
    """Whether it answers; where it does not, a problem says so."""

    ready: bool


class ModelReady(_ResponseModel):
    """Whether a model answers; where it does not, a problem says so."""

    name: str
    ready: bool


class ServerMetadata(_ResponseModel):
    """What the server is."""

    name: str
    version: str
    extensions: tuple[str, ...]
    """Of the protocol."""


class TensorMetadata(_ResponseModel):
    """A tensor that the model takes or gives."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1 is the number of faces."""
    parameters: dict[str, str] = {}
    """`labels` names the classes along the last axis, separated by commas."""


class ModelMetadata(_ResponseModel):
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class _RequestModel(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, use_attribute_docstrings=True)


class RequestInput(_RequestModel):
    """A tensor of the request: its values are in `data`, or follow the JSON as bytes."""

    name: str
    shape: Annotated[list[Size], FailFast()]
    datatype: str
    parameters: Parameters = {}
    """`binary_data_size`, the number of bytes after the JSON that are this tensor; no other is known."""
    data: Annotated[Any, Field(json_schema_extra={"type": "array", "items": {}})] = None
    """Whole numbers from 0 to 255, row-major: nested as the shape says, or flat."""


class RequestOutput(_RequestModel):
    """A tensor that is requested."""

    name: str
    parameters: Parameters = {}
    """`binary_data`, whether it comes as bytes after the JSON; no other is known."""


class InferenceRequest(_RequestModel):
    """What a model is asked."""

    id: str | None = None
    """Given back with the answer."""
    parameters: Parameters = {}
    """`binary_data_output`, whether outputs come as bytes where they do not say so themselves."""
    inputs: Annotated[list[RequestInput], FailFast(), Field(min_length=1, max_length=1)]
    outputs: Annotated[list[RequestOutput], FailFast()] = []
    """Where none is named, all are answered."""


class ResponseOutput(_ResponseModel):
    """A tensor of the answer."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, int] | None = None
    """`binary_data_size`, where it follows the JSON as bytes: little-endian, row-major, in the order of the outputs."""
    data: list[float] | None = None
    """Row-major and flat, where it does not."""


class InferenceResponse(_ResponseModel):
    """What a model answers."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]


class InferenceProblem(Problem):
    """What went wrong (RFC 9457), with the one member that the protocol's clients read."""

    error: str
    """The same as `detail`."""
