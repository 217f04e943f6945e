"""The Open Inference Protocol: what it answers, and exactly how it refuses."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import numpy as np
import pytest

import manet
from manet.recognizer import Recognizer
from manet.vision.preprocess import Pixels, network_input
from service.app import create_app
from service.clock import SystemClock
from service.errors import NAMESPACE
from service.settings import Settings
from testing.fakes import SIDE, WEIGHTS, FakeBackend, make_app, recognizer, running, until

pytestmark = pytest.mark.anyio

PATH = f"/v2/models/{WEIGHTS.id}"
VERSION = WEIGHTS.sha256[:12] if WEIGHTS.sha256 else "1"
COUNT = SIDE * SIDE * 3
CLASSES = len(WEIGHTS.classes)
LENGTH = "Inference-Header-Content-Length"


def faces(*colours: tuple[int, int, int]) -> Pixels:
    """Return network inputs of one colour each."""
    return np.stack([np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in colours])


RED = faces((255, 0, 0))
BOTH = faces((255, 0, 0), (0, 0, 255))


def question(images: Pixels = RED, *, nested: bool = False, **changes: Any) -> dict[str, Any]:
    """Return a request in JSON; ``changes`` go to its input."""
    data = images.tolist() if nested else images.ravel().tolist()
    given = {"name": "images", "shape": list(images.shape), "datatype": "UINT8", "data": data, **changes}
    return {"inputs": [given]}


def binary(images: Pixels = RED, size: Any = None, **fields: Any) -> tuple[bytes, dict[str, str]]:
    """Return the body of a request whose tensor follows the JSON, and its headers."""
    parameters = {"binary_data_size": images.size if size is None else size}
    given = {"name": "images", "shape": list(images.shape), "datatype": "UINT8", "parameters": parameters}
    head = json.dumps({"inputs": [given], **fields}).encode()
    return head + images.tobytes(), {LENGTH: str(len(head))}


async def ask(client: httpx.AsyncClient, asked: Any) -> httpx.Response:
    return await client.post(f"{PATH}/infer", json=asked)


def values(answer: httpx.Response) -> Mapping[str, np.ndarray[Any, Any]]:
    """Return the outputs of an answer in JSON."""
    assert answer.status_code == 200, answer.text
    return {o["name"]: np.array(o["data"], np.float32).reshape(o["shape"]) for o in answer.json()["outputs"]}


def expected(images: Pixels, service: Recognizer) -> Mapping[str, np.ndarray[Any, Any]]:
    """Return what the recognizer itself says of network inputs."""
    logits = service.classify(images)
    read = [service.recognize(image, faces="whole")[0].probabilities for image in images]
    return {"logits": logits, "probabilities": np.array([list(p.values()) for p in read], np.float32)}


def check(answer: httpx.Response, status: int, kind: str, *words: str) -> None:
    """Hold a refusal to RFC 9457 and to the protocol at once."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "error"}
    assert (body["type"], body["status"]) == (NAMESPACE + kind, status)
    assert body["error"] == body["detail"]
    assert all(word in body["error"] for word in words), body["error"]


# -- what it tells of itself


async def test_the_server_returns_its_metadata_and_is_live_and_ready() -> None:
    async with running(make_app()) as client:
        server = (await client.get("/v2")).json()
        assert server == {"name": "manet", "version": manet.__version__, "extensions": ["binary_tensor_data"]}
        assert (await client.get("/v2/health/live")).json() == {"live": True}
        assert (await client.get("/v2/health/ready")).json() == {"ready": True}
        for path in (PATH, f"{PATH}/versions/{VERSION}"):
            assert (await client.get(f"{path}/ready")).json() == {"name": WEIGHTS.id, "ready": True}


async def test_the_model_returns_its_tensors_and_their_classes() -> None:
    async with running(make_app()) as client:
        told = (await client.get(PATH)).json()
        assert (await client.get(f"{PATH}/versions/{VERSION}")).json() == told

    assert (told["name"], told["versions"], told["platform"]) == (WEIGHTS.id, [VERSION], "fake_float32")
    [images] = told["inputs"]
    assert images == {"name": "images", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3], "parameters": {}}
    assert [output["name"] for output in told["outputs"]] == ["probabilities", "logits"]
    for output in told["outputs"]:
        assert (output["datatype"], output["shape"]) == ("FP32", [-1, CLASSES])
        assert output["parameters"]["labels"].split(",") == list(WEIGHTS.classes)


async def test_while_it_drains_it_lives_but_is_not_ready() -> None:
    app = make_app()
    async with running(app) as client:
        app.state.service.admission.draining = True
        assert (await client.get("/v2/health/live")).status_code == 200
        for path in ("/v2/health/ready", f"{PATH}/ready"):
            check(await client.get(path), 503, "not-ready", "being stopped")
        check(await ask(client, question()), 503, "draining", "being stopped")


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


# -- inference


@pytest.mark.parametrize("nested", [True, False])
async def test_tensors_in_json_are_answered_in_json(nested: bool) -> None:
    async with running(make_app()) as client:
        answer = await ask(client, {**question(BOTH, nested=nested), "id": "42", "model_name": "passed over"})

    body = answer.json()
    assert (body["model_name"], body["model_version"], body["id"]) == (WEIGHTS.id, VERSION, "42")
    assert answer.headers["content-type"] == "application/json"
    assert LENGTH not in answer.headers
    outputs = values(answer)
    assert list(outputs) == ["probabilities", "logits"]
    for name, wanted in expected(BOTH, recognizer()).items():
        np.testing.assert_allclose(outputs[name], wanted, atol=1e-6)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-6)


async def test_tensors_as_bytes_are_answered_as_bytes() -> None:
    outputs = [{"name": "logits"}, {"name": "probabilities", "parameters": {"binary_data": True}}]
    data, headers = binary(BOTH, parameters={"binary_data_output": True}, outputs=outputs)
    async with running(make_app()) as client:
        answer = await client.post(f"{PATH}/versions/{VERSION}/infer", content=data, headers=headers)

    assert answer.headers["content-type"] == "application/octet-stream"
    head, tail = answer.content[: int(answer.headers[LENGTH])], answer.content[int(answer.headers[LENGTH]) :]
    told = json.loads(head)
    assert "id" not in told
    size = 2 * CLASSES * 4
    assert [(o["name"], o["parameters"]) for o in told["outputs"]] == [
        ("logits", {"binary_data_size": size}),
        ("probabilities", {"binary_data_size": size}),
    ]
    wanted = expected(BOTH, recognizer())
    found = np.frombuffer(tail, "<f4").reshape(2, 2, CLASSES)
    np.testing.assert_allclose(found, [wanted["logits"], wanted["probabilities"]], atol=1e-6)


async def test_an_output_overrules_the_request_and_only_what_is_requested_is_answered() -> None:
    outputs = [{"name": "logits", "parameters": {"binary_data": False}}]
    data, headers = binary(outputs=outputs, parameters={"binary_data_output": True, "other": [1]})
    async with running(make_app()) as client:
        answer = await client.post(f"{PATH}/infer", content=data, headers=headers)

    assert list(values(answer)) == ["logits"]
    assert LENGTH not in answer.headers


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_bodies_may_be_compressed(coding: str, pack: Callable[[bytes], bytes]) -> None:
    data, headers = binary(BOTH)
    headers |= {"Content-Encoding": coding, "Accept-Encoding": coding}
    async with running(make_app()) as client:
        answer = await client.post(f"{PATH}/infer", content=pack(data), headers=headers)

    assert (answer.headers["content-encoding"], answer.headers["vary"]) == (coding, "Accept-Encoding")
    assert values(answer)["logits"].shape == (2, CLASSES)


@pytest.mark.parametrize("accepted", ["identity", "br, zstd", "gzip;q=0, deflate; q=0.0", ""])
async def test_a_client_that_accepts_no_compression_gets_none(accepted: str) -> None:
    async with running(make_app()) as client:
        answer = await client.post(f"{PATH}/infer", json=question(), headers={"Accept-Encoding": accepted})

    assert "content-encoding" not in answer.headers
    assert answer.status_code == 200


async def test_the_shipped_weights_answer_as_the_recognizer_does() -> None:
    service = Recognizer.from_weights("ferplus", backend="torch", precision="float32")
    noise = np.random.default_rng(7).integers(0, 256, (3, 96, 72, 3), np.uint8)
    crops = [np.sort(image, axis=axis) for axis, image in enumerate(noise)]
    images = np.stack([network_input(crop, service.weights.preprocessing) for crop in crops])
    data, headers = binary(images)
    async with running(create_app(Settings(max_batch_size=4), service, SystemClock())) as client:
        outputs = values(await client.post(f"{PATH}/infer", content=data, headers=headers))
        wanted = [service.recognize(crop, faces="whole")[0].probabilities for crop in crops]
        logits = service.classify(images)

    np.testing.assert_allclose(outputs["probabilities"], [list(p.values()) for p in wanted], atol=1e-4)
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-4)


async def test_it_has_the_time_of_each_stage_and_counts_its_faces() -> None:
    async with running(make_app()) as client:
        answer = await ask(client, question(BOTH))
        metrics = (await client.get("/metrics")).text

    assert answer.headers["server-timing"].startswith("queue;dur=")
    assert "manet_faces_total 2.0" in metrics
    assert 'manet_requests_total{route="/v2/models/{model}/infer",status="200"} 1.0' in metrics


# -- what it refuses

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


PACKED = gzip.compress(json.dumps(question()).encode())
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


# -- load


async def test_each_face_takes_a_permit_and_where_one_is_refused_all_are() -> None:
    backend = FakeBackend()
    async with running(make_app(backend, max_inflight_images=2)) as client:
        check(await ask(client, question(faces(*[(9, 9, 9)] * 3))), 429, "overloaded", "images")
        assert backend.batches == []
        assert (await ask(client, question(BOTH))).status_code == 200
        assert "manet_images_in_flight 0.0" in (await client.get("/metrics")).text


async def test_the_bytes_of_a_compressed_body_count_as_what_they_may_become() -> None:
    async with running(make_app(max_bytes_in_flight=100_000)) as client:
        answer = await client.post(f"{PATH}/infer", content=PACKED, headers={"Content-Encoding": "gzip"})
        check(answer, 429, "overloaded", "bytes")
        assert (await ask(client, question())).status_code == 200


async def test_a_deadline_that_passes_in_the_queue() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    async with running(make_app(backend, deadline=0.3)) as client:
        first = asyncio.create_task(ask(client, question()))
        await until(backend.entered)
        second = asyncio.create_task(ask(client, question()))
        await asyncio.sleep(0.5)
        backend.gate.set()
        check(await second, 504, "deadline-exceeded", "deadline")
        await first


async def test_a_client_that_disconnects_costs_the_network_nothing() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    app = make_app(backend, max_batch_size=1)
    left = asyncio.Event()
    data, headers = binary(BOTH)
    messages = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_message: object) -> None:
        """Lose what is sent: no one is there any more."""

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": f"{PATH}/infer",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    async with running(app) as client:
        held = asyncio.create_task(ask(client, question()))
        await until(backend.entered)
        leaving = asyncio.create_task(app(scope, receive, send))
        async with asyncio.timeout(20):
            while app.state.service.scheduler.depth < 2:
                await asyncio.sleep(0.01)
        left.set()
        await leaving
        assert (app.state.service.scheduler.depth, app.state.service.admission.images) == (0, 1)
        backend.gate.set()
        assert (await held).status_code == 200
    assert backend.batches == [1]


async def test_a_face_that_the_network_fails_on_fails_its_request_alone() -> None:
    backend = FakeBackend()
    backend.poison = 7
    async with running(make_app(backend)) as client:
        bad, good = await asyncio.gather(ask(client, question(faces((7, 0, 0)))), ask(client, question()))
        check(bad, 500, "face-failed", "this face")
        assert good.status_code == 200


async def test_a_batch_does_not_keep_a_single_face_waiting() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    async with running(make_app(backend, max_batch_size=2)) as client:
        held = asyncio.create_task(ask(client, question()))
        await until(backend.entered)
        many = asyncio.create_task(ask(client, question(faces(*[(9, 9, 9)] * 60))))
        while "manet_queue_depth 60.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        one = asyncio.create_task(ask(client, question()))
        while "manet_queue_depth 61.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        backend.gate.set()
        done, _ = await asyncio.wait({many, one}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {one}
        await asyncio.gather(held, many)


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
