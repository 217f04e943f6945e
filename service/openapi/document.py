"""The OpenAPI document: what the routes share in it, and what FastAPI cannot say."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.openapi.examples import answers

Responses = dict[int | str, dict[str, Any]]
"""Responses by status, as FastAPI takes them."""

MOST_FIELDS = 8
"""In a form: the one that is requested, and others that browsers and libraries add."""

MEDIA_TYPE = "application/problem+json"
"""Of every error (RFC 9457)."""

REQUEST_ID = {
    "X-Request-ID": {
        "description": "The id that the request came with, or a new one; quote it when you report a fault.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    }
}
RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which the same request may succeed.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
SERVER_TIMING = {
    "Server-Timing": {
        "description": "Milliseconds spent on decoding and detection (`find`), in the queue (`queue`) and in the "
        "network (`infer`).",
        "required": True,
        "schema": {"type": "string"},
        "example": "find;dur=14.2, queue;dur=0.3, infer;dur=21.7",
    }
}
STAGES = {
    "Server-Timing": {
        "description": "Milliseconds spent in the queue (`queue`) and in the network (`infer`).",
        "required": True,
        "schema": {"type": "string"},
        "example": "queue;dur=0.3, infer;dur=21.7",
    }
}

TAGS = [
    {"name": "predict", "description": "Images in, faces and their apparent expressions out."},
    {"name": "explain", "description": "What the network went by in a face."},
    {
        "name": "v2",
        "description": "The Open Inference Protocol: face crops as tensors in, logits and probabilities out.",
    },
    {"name": "model", "description": "What is loaded, how well it was measured to do, and what it is for."},
    {"name": "health", "description": "For what restarts the process and sends it traffic."},
    {"name": "metrics", "description": "For Prometheus."},
]


_PLACE = "#/components/schemas/{model}"
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the service has any."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, otherwise sent."},
}


def reference(body: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a body that a handler reads itself: by name, for generators of clients invent one else.

    Args:
        body: one of those that ``install`` was given.
    """
    return {"$ref": _PLACE.format(model=body.__name__)}


def succeeded(description: str, headers: Mapping[str, Any] = MappingProxyType({})) -> Responses:
    """Return the success of an operation as the contract shows it.

    Args:
        description: one sentence.
        headers: what it carries besides the id of the request.
    """
    return {200: {"description": description, "headers": {**REQUEST_ID, **headers}}}


def form(field: str, schema: dict[str, Any], *, curl: str) -> dict[str, Any]:
    """Return a multipart body as the contract shows it; the handlers read it themselves, after it was admitted.

    Args:
        field: the name of the form field.
        schema: what it holds.
        curl: a command line that sends it.
    """
    body = {"type": "object", "required": [field], "properties": {field: schema}, "maxProperties": MOST_FIELDS}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": body}}},
        "x-codeSamples": [{"lang": "Shell", "source": curl}],
    }


def image_body(field: str, schema: dict[str, Any], encoded: type[BaseModel], *, curl: str) -> dict[str, Any]:
    """Return a body that is one image as the contract shows it: in a form, bare, or in JSON.

    Args:
        field: the name of the form field.
        schema: what it holds.
        encoded: the JSON that holds an image in base64.
        curl: command lines that send it in a form, and bare.
    """
    shown = form(field, schema, curl=curl)
    # Named in words, for generators of clients know no ranges of types.
    bare = {**schema, "description": f"{schema['description']} Any type `image/*` is read likewise."}
    content = shown["requestBody"]["content"]
    content["application/octet-stream"] = {"schema": bare}
    content["application/json"] = {"schema": reference(encoded)}
    return shown


def install(
    app: FastAPI, *, bodies: Sequence[type[BaseModel]], needs_key: Callable[[str], bool], max_faces: int
) -> None:
    """Finish an application's document where FastAPI cannot.

    FastAPI drops every null that it finds in an example, and with it what the answer's schema requires; and it gives
    the schema of an error the media type of the operation's success.

    Args:
        app: whose document it is.
        bodies: what handlers read themselves, so that FastAPI does not know it.
        needs_key: whether requests to a path need an API key.
        max_faces: the most faces that may be requested in an image.
    """
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        made = app.openapi_schema is not None
        document = plain()
        if not made:
            _finish(document)
            _define(document, bodies)
            _describe_keys(document, needs_key)
            _describe_bound(document, max_faces)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way of extending it


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def _describe_keys(document: dict[str, Any], needs_key: Callable[[str], bool]) -> None:
    """Show how a key is sent, and where one is needed."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    guarded = [methods for path, methods in document["paths"].items() if needs_key(path)]
    for operation in (operation for methods in guarded for operation in methods.values()):
        operation["security"] = [{name: []} for name in _SCHEMES]


def _describe_bound(document: dict[str, Any], max_faces: int) -> None:
    """Show how many faces may be requested, which is a setting."""
    for operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "max_faces":
                parameter["schema"]["maximum"] = max_faces


def _define(document: dict[str, Any], bodies: Sequence[type[BaseModel]]) -> None:
    """Add what bodies refer to, and say of all numbers what they are.

    Generators of clients make a number without a format what they like: 32 bits in Go, ``BigDecimal`` in Java.
    """
    schemas = document["components"]["schemas"]
    _, shown = models_json_schema([(body, "validation") for body in bodies], ref_template=_PLACE)
    schemas |= shown["$defs"]
    for number in _numbers(schemas):
        number["format"] = "double"


def _numbers(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema of a number that need not be whole."""
    if isinstance(value, dict):
        if value.get("type") == "number":
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from _numbers(child)


def _finish(document: dict[str, Any]) -> None:
    shown = answers()
    for operation in _operations(document):
        errors = {status: r for status, r in operation["responses"].items() if int(status) >= HTTPStatus.BAD_REQUEST}
        for content in (error["content"] for error in errors.values()):
            [success] = content.keys() - {MEDIA_TYPE}
            content[MEDIA_TYPE] |= content.pop(success)
        for name, answer in shown.get(operation["operationId"], {}).items():
            content = operation["responses"]["200"]["content"]["application/json"]
            content.setdefault("examples", {})[name] = {"value": answer.model_dump(mode="json", exclude_unset=True)}
