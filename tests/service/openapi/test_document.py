"""The contract, ``/openapi.json``: what it promises about itself, and the snapshot that shows each change of it."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

import manet
from service.errors import NAMESPACE
from service.middleware.api_keys import is_open
from service.openapi.document import MEDIA_TYPE
from testing.fakes import RED_FACE, make_app, post, running
from tests.service.openapi.snapshot import SNAPSHOT, contract

DOCUMENT = json.loads(contract())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def resolve(reference: str) -> Any:
    """Return what a reference inside the document points at."""
    found = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the document."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(child)


def test_the_snapshot_is_the_contract() -> None:
    shown = json.loads(SNAPSHOT.read_text(encoding="utf-8"))

    assert shown == DOCUMENT, "the contract has changed: look at the difference that `make contract` makes"
    assert SNAPSHOT.read_text(encoding="utf-8") == contract()


def test_the_version_is_the_package_s_and_every_reference_leads_somewhere() -> None:
    assert DOCUMENT["info"]["version"] == manet.__version__
    references = [node["$ref"] for node in walk(DOCUMENT) if isinstance(node.get("$ref"), str)]
    assert len(references) > 30
    assert all(resolve(reference) for reference in references)


def test_operation_ids_are_unique_names_of_no_particular_framework() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]

    assert len(set(ids)) == len(ids)
    assert [id for id in ids if not (id.isidentifier() and id[0].islower() and "_" not in id)] == []


def test_no_error_of_the_framework_s_own_shape_is_left() -> None:
    assert "HTTPValidationError" not in json.dumps(DOCUMENT)
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["required"]) == {"type", "title", "status", "detail"}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_error_of_an_operation_is_the_shared_problem(operation: dict[str, Any]) -> None:
    shared = "InferenceProblem" if operation["tags"] == ["v2"] else "Problem"
    errors = {int(status): response for status, response in operation["responses"].items() if int(status) >= 400}

    assert 500 in errors
    for status, response in errors.items():
        assert list(response["content"]) == [MEDIA_TYPE]
        assert response["content"][MEDIA_TYPE]["schema"] == {"$ref": f"#/components/schemas/{shared}"}
        assert ("Retry-After" in response["headers"]) == (status in {429, 503})
        for example in response["content"][MEDIA_TYPE]["examples"].values():
            assert example["value"]["status"] == status
            assert example["value"]["type"] in response["description"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_needs_no_key_documents_no_refusal_of_a_client_and_all_else_does(operation: str) -> None:
    refusals = {"401", "429"} & OPERATIONS[operation]["responses"].keys()

    assert refusals == (set() if is_open(operation.partition(" ")[2]) else {"401", "429"})


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_answer_names_the_id_of_its_request(operation: dict[str, Any]) -> None:
    assert "200" in operation["responses"]
    for response in operation["responses"].values():
        assert response["headers"]["X-Request-ID"]["required"]


def test_every_example_is_what_its_schema_says() -> None:
    checked = 0
    for operation in OPERATIONS.values():
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                examples = content.get("examples", {})
                assert examples or content["schema"].get("type") == "string"
                schema = {**content["schema"], "components": DOCUMENT["components"]}
                for example in examples.values():
                    jsonschema_rs.validate(schema, example["value"])
                    checked += 1
    assert checked > 25


@pytest.mark.parametrize(
    ("operation", "field"), [("POST /predict", "image"), ("POST /predict/batch", "images"), ("POST /explain", "image")]
)
def test_uploads_are_binary_and_shown_as_a_command(operation: str, field: str) -> None:
    body = OPERATIONS[operation]["requestBody"]
    schema = body["content"]["multipart/form-data"]["schema"]["properties"][field]
    image = schema.get("items", schema)

    assert body["required"]
    assert (image["type"], image["format"]) == ("string", "binary")
    [sample] = OPERATIONS[operation]["x-codeSamples"]
    assert f"-F {field}=@" in sample["source"]


@pytest.mark.parametrize("operation", ["POST /predict", "POST /predict/batch"])
def test_parameters_show_their_bounds(operation: str) -> None:
    faces, most = OPERATIONS[operation]["parameters"]

    assert (faces["schema"]["enum"], faces["schema"]["default"]) == (["detect", "small", "whole"], "detect")
    assert (most["schema"]["type"], most["schema"]["minimum"], most["required"]) == ("integer", 1, False)


def test_what_a_body_in_json_is_has_a_name() -> None:
    bodies = [
        content["application/json"]["schema"]
        for operation in OPERATIONS.values()
        if "application/json" in (content := operation.get("requestBody", {}).get("content", {}))
    ]

    assert {"$ref": "#/components/schemas/EncodedImage"} in bodies
    assert [body for body in bodies if list(body) != ["$ref"]] == []


def test_numbers_have_64_bits() -> None:
    numbers = [node for node in walk(DOCUMENT) if node.get("type") == "number"]

    assert len(numbers) > 20
    assert [number for number in numbers if number.get("format") != "double"] == []


def test_every_kind_of_problem_stands_in_the_description() -> None:
    told = {
        example["value"]["type"]
        for operation in OPERATIONS.values()
        for response in operation["responses"].values()
        for example in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).values()
    }

    assert len(told) > 10
    for kind in told | {NAMESPACE + "not-found", NAMESPACE + "method-not-allowed"}:
        assert f"`{kind}`" in DOCUMENT["info"]["description"]


@pytest.mark.anyio
async def test_an_unexpected_error_is_counted_and_carries_its_id_like_any_other_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("service.routes.predict.read_image", fail)
    async with running(make_app()) as client:
        answer = await post(client, RED_FACE)
        metrics = (await client.get("/metrics")).text

    assert answer.status_code == 500
    assert answer.headers["x-request-id"]
    assert 'manet_requests_total{route="/predict",status="500"} 1.0' in metrics
    assert 'status="499"' not in metrics


@pytest.mark.anyio
async def test_it_is_served_with_its_reference_page() -> None:
    async with running(make_app()) as client:
        assert (await client.get("/openapi.json")).json() == DOCUMENT
        assert (await client.get("/docs")).status_code == 200
