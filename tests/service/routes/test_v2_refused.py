"""The Open Inference Protocol: exactly how it refuses."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from testing.fakes import SIDE, WEIGHTS, make_app, running
from tests.service.routes.v2_requests import (
    COUNT,
    LENGTH,
    PACKED,
    PATH,
    RED,
    VERSION,
    ask,
    binary,
    check,
    question,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("rest", ["", "/ready", "/infer"])
async def test_another_model_or_version_is_not_there(rest: str) -> None:
    async with running(make_app()) as client:
        for path in ("/v2/models/other", f"/v2/models/other/versions/{VERSION}"):
            answer = await client.request("POST" if rest == "/infer" else "GET", path + rest)
            check(answer, 404, "unknown-model", f"'{WEIGHTS.id}'")
        answer = await client.request("POST" if rest == "/infer" else "GET", f"{PATH}/versions/7{rest}")
        check(answer, 404, "unknown-model", f"'{VERSION}'")


async def test_what_the_protocol_has_and_this_server_has_not_is_refused_in_the_protocols_form() -> None:
    async with running(make_app()) as client:
        check(await client.get(f"{PATH}/config"), 404, "not-found")
        check(await client.post("/v2/repository/index"), 404, "not-found")
        check(await client.get(f"{PATH}/infer"), 405, "method-not-allowed")
        assert "error" not in (await client.get("/v20")).json()


NESTED_BADLY = RED.tolist()


NESTED_BADLY[0][0][0] = [1, 2]


DEEP = "[" * 5000
QUESTIONS: dict[str, tuple[Any, int, str, str]] = {
    "no JSON": ("{", 400, "malformed-request", "EOF"),
    "nothing": ("", 400, "malformed-request", "EOF"),
    "too deep": (DEEP, 400, "malformed-request", "recursion limit"),
    "no object": ([], 400, "malformed-request", "valid dictionary"),
    "no input": ({"inputs": []}, 400, "malformed-request", "inputs: List should have at least 1"),
    "two inputs": (
        {"inputs": question()["inputs"] * 2},
        400,
        "malformed-request",
        "inputs: List should have at most 1",
    ),
    "no shape": ({"inputs": [{"name": "images", "datatype": "UINT8"}]}, 400, "malformed-request", "0.shape: Field"),
    "a number as id": ({**question(), "id": 7}, 400, "malformed-request", "id: Input should be a valid string"),
    "a name that is none": (question(name=None), 400, "malformed-request", "inputs.0.name"),
    "another name": (question(name="faces"), 400, "invalid-tensor", "'images'"),
    "another type": (question(datatype="FP32"), 400, "invalid-tensor", "UINT8"),
    "another side": (question(shape=[1, SIDE, SIDE + 1, 3]), 400, "invalid-tensor", f"[N, {SIDE}, {SIDE}, 3]"),
    "channels first": (question(shape=[1, 3, SIDE, SIDE]), 400, "invalid-tensor", f"[N, {SIDE}, {SIDE}, 3]"),
    "no batch axis": (question(shape=[SIDE, SIDE, 3]), 400, "invalid-tensor", f"[N, {SIDE}, {SIDE}, 3]"),
    "no face": (question(shape=[0, SIDE, SIDE, 3], data=[]), 400, "invalid-tensor", "N at least 1"),
    "fewer than none": (question(shape=[-1, SIDE, SIDE, 3]), 400, "malformed-request", "greater than or equal to 0"),
    "a fraction of a face": (question(shape=[1.5, SIDE, SIDE, 3]), 400, "malformed-request", "valid integer"),
    "more than can be": (question(shape=[10**30, SIDE, SIDE, 3]), 400, "malformed-request", "less than or equal"),
    "too many faces": (question(shape=[4, SIDE, SIDE, 3]), 400, "invalid-tensor", "at most 3"),
    "no data": (question(data=None), 400, "invalid-tensor", "neither"),
    "data that is no list": (question(data={"0": 1}), 400, "invalid-tensor", "neither"),
    "too little data": (question(data=[1] * (COUNT - 1)), 400, "invalid-tensor", f"{COUNT - 1} values"),
    "too much data": (question(data=[1] * (COUNT + 1)), 400, "invalid-tensor", f"{COUNT + 1} values"),
    "nested otherwise": (question(data=NESTED_BADLY), 400, "invalid-tensor", "nested"),
    "nested in part": (question(data=[[1], 2]), 400, "invalid-tensor", "nested"),
    "a fraction": (question(data=[0.5] * COUNT), 400, "invalid-tensor", "whole numbers"),
    "a truth": (question(data=[True] * COUNT), 400, "invalid-tensor", "whole numbers"),
    "a text": (question(data=["1"] * COUNT), 400, "invalid-tensor", "whole numbers"),
    "256": (question(data=[256] * COUNT), 400, "invalid-tensor", "0 to 255"),
    "-1": (question(data=[-1] * COUNT), 400, "invalid-tensor", "0 to 255"),
    "a number beyond all": (question(data=[10**30] * COUNT), 400, "invalid-tensor", "0 to 255"),
    "1e999": ('{"inputs": [1e999]}', 400, "malformed-request", "inputs.0"),
    "NaN": ('{"inputs": [NaN]}', 400, "malformed-request", "expected value"),
    "an infinity": ('{"inputs": [-Infinity]}', 400, "malformed-request", "no JSON"),
    "shared memory": (question(parameters={"shared_memory_region": "x"}), 400, "invalid-tensor", "binary_data_size"),
    "bytes that are not there": (question(parameters={"binary_data_size": 1}), 400, "invalid-tensor", "both"),
    "another output": ({**question(), "outputs": [{"name": "age"}]}, 400, "invalid-tensor", "probabilities and logits"),
    "twice the same": ({**question(), "outputs": [{"name": "logits"}] * 2}, 400, "invalid-tensor", "twice"),
    "a class count": (
        {**question(), "outputs": [{"name": "logits", "parameters": {"classification": 3}}]},
        400,
        "invalid-tensor",
        "binary_data",
    ),
    "binary perhaps": (
        {**question(), "parameters": {"binary_data_output": "yes"}},
        400,
        "invalid-tensor",
        "true or fal",
    ),
}


@pytest.mark.parametrize(("asked", "status", "kind", "words"), QUESTIONS.values(), ids=QUESTIONS)
async def test_a_question_that_makes_no_sense(asked: Any, status: int, kind: str, words: str) -> None:
    async with running(make_app(max_batch_images=3)) as client:
        content = asked if isinstance(asked, str) else json.dumps(asked)
        check(await client.post(f"{PATH}/infer", content=content), status, kind, words)
        assert "manet_faces_total 0.0" in (await client.get("/metrics")).text


BINARIES: dict[str, tuple[Any, bytes | None, str]] = {
    "negative": (-1, None, f"must be {COUNT}"),
    "too small": (COUNT - 1, None, f"must be {COUNT}"),
    "too large": (COUNT + 1, None, f"must be {COUNT}"),
    "no number": ("all", None, f"must be {COUNT}"),
    "a truth": (True, None, f"must be {COUNT}"),
    "bytes missing": (COUNT, b"\0" * (COUNT - 1), f"{COUNT - 1} bytes follow"),
    "bytes trailing": (COUNT, b"\0" * (COUNT + 1), f"{COUNT + 1} bytes follow"),
    "no bytes": (COUNT, b"", "0 bytes follow"),
}


@pytest.mark.parametrize(("size", "tail", "words"), BINARIES.values(), ids=BINARIES)
async def test_a_size_that_lies(size: Any, tail: bytes | None, words: str) -> None:
    data, headers = binary(size=size)
    if tail is not None:
        data = data[: int(headers[LENGTH])] + tail
    async with running(make_app()) as client:
        check(await client.post(f"{PATH}/infer", content=data, headers=headers), 400, "invalid-tensor", words)


@pytest.mark.parametrize(
    ("length", "status", "kind", "words"),
    [
        ("-1", 422, "invalid-parameter", "greater than or equal to 0"),
        ("many", 422, "invalid-parameter", "valid integer"),
        ("0", 400, "malformed-request", "EOF"),
        ("99999999", 400, "malformed-request", "99999999, but the body has"),
        ("10", 400, "malformed-request", "no JSON"),
    ],
)
async def test_a_length_of_json_that_lies(length: str, status: int, kind: str, words: str) -> None:
    data, _ = binary()
    async with running(make_app()) as client:
        answer = await client.post(f"{PATH}/infer", content=data, headers={LENGTH: length})
        check(answer, status, kind, words)


async def test_bytes_behind_a_tensor_that_is_in_the_json() -> None:
    head = json.dumps(question()).encode()
    async with running(make_app()) as client:
        answer = await client.post(f"{PATH}/infer", content=head + b"rest", headers={LENGTH: str(len(head))})
        check(answer, 400, "invalid-tensor", "4 bytes follow")


CODED: dict[str, tuple[str, bytes, int, str, str]] = {
    "another coding": ("br", PACKED, 415, "unsupported-encoding", "gzip and deflate"),
    "two codings": ("gzip, gzip", PACKED, 415, "unsupported-encoding", "one at a time"),
    "not as it says": ("deflate", PACKED, 400, "malformed-request", "Content-Encoding"),
    "cut short": ("gzip", PACKED[:-20], 400, "malformed-request", "too early"),
    "empty": ("gzip", b"", 400, "malformed-request", "too early"),
    "trailing": ("gzip", PACKED + b"more", 400, "malformed-request", "Content-Encoding"),
}


@pytest.mark.parametrize(("coding", "data", "status", "kind", "words"), CODED.values(), ids=CODED)
async def test_a_body_compressed_amiss(coding: str, data: bytes, status: int, kind: str, words: str) -> None:
    async with running(make_app()) as client:
        answer = await client.post(f"{PATH}/infer", content=data, headers={"Content-Encoding": coding})
        check(answer, status, kind, words)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_decompression_bomb_is_refused_before_it_goes_off(coding: str, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(30_000_000))
    async with running(make_app(max_batch_bytes=100_000)) as client:
        answer = await client.post(f"{PATH}/infer", content=bomb, headers={"Content-Encoding": coding})
        check(answer, 413, "payload-too-large", "more than 100000 bytes")


async def test_a_body_is_bounded_by_what_the_largest_batch_needs() -> None:
    most = 2 * 1024 * 1024
    async with running(make_app(max_batch_images=1)) as client:
        answer = await client.post(f"{PATH}/infer", content=bytes(most + 1))
        check(answer, 413, "payload-too-large", f"at most {most}")
        answer = await client.post(f"{PATH}/infer", content=bytes(most + COUNT + 1), headers={LENGTH: "100"})
        check(answer, 413, "payload-too-large", f"at most {most + COUNT}")
        answer = await client.post(f"{PATH}/infer", content=bytes(most + 1), headers={LENGTH: str(most + 1)})
        check(answer, 413, "payload-too-large", "send tensors as binary data")

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(10_000)

        check(await client.post(f"{PATH}/infer", content=endless()), 413, "payload-too-large", "more than")


async def test_a_sender_that_is_too_slow() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    async with running(make_app(upload_timeout=0.2)) as client:
        check(await client.post(f"{PATH}/infer", content=slow()), 408, "upload-timed-out", "0.2 seconds")


async def test_an_unexpected_error_is_reported_in_the_protocols_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("/secret/path")

    app = make_app()
    monkeypatch.setattr(app.state.service.recognizer, "read", fail)
    async with running(app) as client:
        answer = await ask(client, question())

    check(answer, 500, "internal-error", "defect")
    assert "/secret" not in answer.text


async def test_the_contract_documents_every_refusal() -> None:
    async with running(make_app()) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]

    ids = {o["operationId"] for path, item in paths.items() if path.startswith("/v2") for o in item.values()}
    models = {"getInferenceModel", "getInferenceModelReady", "infer"}
    assert ids == {
        *("getInferenceServer", "getInferenceServerLive", "getInferenceServerReady"),
        *models,
        *(f"{name}Version" for name in models),
    }
    operation = paths["/v2/models/{model}/infer"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    codes = {"400", "401", "404", "408", "413", "415", "422", "429", "500", "503", "504"}
    assert set(operation["responses"]) == codes | {"200"}
    for code in codes:
        schema = operation["responses"][code]["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/InferenceProblem"}
