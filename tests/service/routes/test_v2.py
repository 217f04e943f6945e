"""The Open Inference Protocol: what it answers, alone and under load."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import manet
from manet.recognizer import Recognizer
from manet.vision.preprocess import network_input
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings
from testing.fakes import SIDE, WEIGHTS, FakeBackend, make_app, recognizer, running, until
from tests.service.routes.v2_requests import (
    BOTH,
    CLASSES,
    LENGTH,
    PACKED,
    PATH,
    VERSION,
    ask,
    binary,
    check,
    expected,
    faces,
    question,
    values,
)

pytestmark = pytest.mark.anyio


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
