"""What the service tells of itself: health, model, metrics, reference."""

import logging
import re
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from testing.fakes import NO_FACE, RED_FACE, WEIGHTS, FakeBackend, make_app, post, running

pytestmark = pytest.mark.anyio


async def test_it_is_ready_once_the_network_was_seen_to_answer_and_not_before() -> None:
    app = make_app()
    assert not app.state.service.admission.ready
    async with running(app) as client:
        assert app.state.service.admission.ready
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        assert (await client.get("/health/live")).json() == {"status": "live"}
    assert not app.state.service.admission.ready


async def test_the_log_says_what_serves_and_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "manet.app"):
        async with running(make_app()):
            pass

    assert f"ready: weights {WEIGHTS.id} on cpu (fake: for tests)" in caplog.messages


async def test_it_does_not_start_with_a_network_that_fails() -> None:
    backend = FakeBackend()
    backend.broken = True
    with pytest.raises(RuntimeError, match="out of order"):
        async with running(make_app(backend)):
            raise AssertionError("it started")


async def test_while_it_drains_it_is_not_ready_and_takes_nothing_new() -> None:
    app = make_app()
    async with running(app) as client:
        app.state.service.admission.draining = True
        ready, refused = await client.get("/health/ready"), await post(client, RED_FACE)

    assert (ready.status_code, ready.json()["detail"]) == (503, "the service is being stopped")
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:manet:problem:draining")


async def test_the_model_returns_what_the_registry_has() -> None:
    async with running(make_app()) as client:
        told = (await client.get("/model")).json()

    assert told["id"] == WEIGHTS.id
    assert told["classes"] == list(WEIGHTS.classes)
    assert told["preprocessing"]["input_size"] == WEIGHTS.preprocessing.input_size
    assert [figures["accuracy"] for figures in told["measured"]] == [m.accuracy for m in WEIGHTS.measured]
    assert told["sha256"] == WEIGHTS.sha256
    assert told["backend"] == {"name": "fake", "precision": "float32", "device": "cpu", "reason": "fake: for tests"}
    assert "AI Act" in " ".join(told["limits"])


async def test_the_model_links_its_card() -> None:
    async with running(make_app()) as client:
        card = await client.get((await client.get("/model")).json()["card"])

    assert card.headers["content-type"] == "text/markdown; charset=utf-8"
    assert card.text.startswith("# Model card: `ferplus`")


async def test_weights_without_a_card_say_so() -> None:
    async with running(make_app(weights=replace(WEIGHTS, card=None))) as client:
        told, card = (await client.get("/model")).json(), await client.get("/model/card")

    assert told["card"] is None
    assert (card.status_code, card.json()["type"]) == (404, "urn:manet:problem:no-model-card")


async def test_every_answer_carries_the_id_of_its_request() -> None:
    async with running(make_app()) as client:
        given = await client.get("/model", headers={"X-Request-ID": "order-66.b_C"})
        missing = await client.get("/nowhere")
        odd = [await client.get("/model", headers={"X-Request-ID": bad}) for bad in ("a b", "x" * 129, "")]

    assert given.headers["x-request-id"] == "order-66.b_C"
    fresh = [answer.headers["x-request-id"] for answer in (missing, *odd)]
    assert len(set(fresh)) == 4
    assert all(re.fullmatch(r"[0-9a-f]{16}-[0-9]+", id) for id in fresh)


async def test_an_answer_has_the_time_of_each_stage() -> None:
    async with running(make_app(FakeBackend(seconds=0.05))) as client:
        seen, empty = await post(client, RED_FACE), await post(client, NO_FACE)

    stages = dict(re.findall(r"(\w+);dur=([\d.]+)", seen.headers["server-timing"]))
    assert list(stages) == ["find", "queue", "infer"]
    assert 50 <= float(stages["infer"]) < 1000
    assert re.fullmatch(r"find;dur=[\d.]+", empty.headers["server-timing"])


async def test_metrics_count_and_are_bounded() -> None:
    async with running(make_app()) as client:
        await post(client, RED_FACE)
        await post(client, NO_FACE)
        await post(client, b"no image")
        for number in range(50):
            await client.get(f"/nothing/{number}")
        text = (await client.get("/metrics")).text

    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["manet_requests_total", "/predict", "200"] == 2
    assert values["manet_requests_total", "/predict", "415"] == 1
    assert values["manet_requests_total", "404", "other"] == 50
    assert values["manet_request_seconds_count", "/predict"] == 3
    assert values["manet_faces_total",] == 1
    assert values["manet_find_seconds_count",] == 2
    assert values["manet_queue_seconds_count",] == 1
    assert values["manet_batch_seconds_count",] == 1
    assert values["manet_ready",] == 1
    assert values["manet_queue_depth",] == values["manet_images_in_flight",] == 0
    assert not [key for key in values if "nothing" in str(key)]


async def test_the_reference_page_loads_nothing_from_another_host() -> None:
    async with running(make_app()) as client:
        page = (await client.get("/docs")).text
        sources = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(sources) >= 2
        assert "://" not in page
        for source in sources:
            assert (await client.get(source)).status_code == 200
