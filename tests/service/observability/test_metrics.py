"""Metrics: what an operator is promised, as Prometheus takes it, and never more of it than is known in advance."""

import re
from collections.abc import Iterable

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strictly_read
from prometheus_client.parser import text_string_to_metric_families

import manet
from service.admission import REASONS
from testing.fakes import NO_FACE, RED_FACE, WEIGHTS, FakeBackend, make_app, post, running

pytestmark = pytest.mark.anyio

PROMISED = {
    "manet_requests": "counter",
    "manet_request_seconds": "histogram",
    "manet_queue_depth": "gauge",
    "manet_queue_seconds": "histogram",
    "manet_batch_size": "histogram",
    "manet_batch_seconds": "histogram",
    "manet_batches_failed": "counter",
    "manet_shed": "counter",
    "manet_find_seconds": "histogram",
    "manet_detect_seconds": "histogram",
    "manet_faces": "counter",
    "manet_images_in_flight": "gauge",
    "manet_ready": "gauge",
    "manet_build_info": "gauge",
}


async def read(client: httpx.AsyncClient) -> dict[str, Metric]:
    text = (await client.get("/metrics")).text
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(family: Metric, suffix: str = "") -> dict[tuple[str, ...], float]:
    """Return a family's samples of one name by their labels' values."""
    named = [sample for sample in family.samples if sample.name == family.name + suffix]
    return {tuple(sample.labels.values()): sample.value for sample in named}


def series(families: Iterable[Metric]) -> set[tuple[str, ...]]:
    """Return every series by name and labels."""
    return {(sample.name, *map("=".join, sample.labels.items())) for family in families for sample in family.samples}


async def test_everything_promised_is_there_from_the_start() -> None:
    async with running(make_app()) as client:
        families = await read(client)

    told = {name: family.type for name, family in families.items() if not name.endswith("_created")}
    assert PROMISED.items() <= told.items()
    assert set(values(families["manet_shed"], "_total")) == {(reason,) for reason in REASONS}


async def test_the_backend_and_the_weights_are_reported() -> None:
    async with running(make_app()) as client:
        [sample] = (await read(client))["manet_build_info"].samples

    assert sample.value == 1
    assert sample.labels == {
        "version": manet.__version__,
        "weights": WEIGHTS.id,
        "backend": "fake",
        "precision": "float32",
        "device": "cpu",
    }


async def test_the_detector_is_timed_apart_from_the_decoding() -> None:
    async with running(make_app()) as client:
        for image in (RED_FACE, NO_FACE, b"no image"):
            await post(client, image)
        await post(client, RED_FACE, faces="whole")
        families = await read(client)

    assert values(families["manet_detect_seconds"], "_count") == {(): 2}
    assert values(families["manet_find_seconds"], "_count") == {(): 3}
    detect, find = (values(families[f"manet_{name}_seconds"], "_sum")[()] for name in ("detect", "find"))
    assert 0 < detect <= find


async def test_failures_and_readiness_are_reported() -> None:
    backend = FakeBackend()
    async with running(make_app(backend)) as client:
        assert values((await read(client))["manet_ready"]) == {(): 1}
        backend.broken = True
        for _ in range(3):
            await post(client, RED_FACE)
        families = await read(client)

    assert values(families["manet_ready"]) == {(): 0}
    assert values(families["manet_batches_failed"], "_total")[()] >= 2
    assert values(families["manet_shed"], "_total")["not_ready",] >= 1


async def test_names_and_forms_are_as_prometheus_wants_them() -> None:
    app = make_app()
    async with running(app) as client:
        await post(client, RED_FACE)
        families = await read(client)
        strictly = {
            family.name for family in strictly_read(generate_latest(app.state.service.metrics.registry).decode())
        }

    assert {"manet_requests", "manet_build"} <= strictly
    for name, family in families.items():
        assert re.fullmatch(r"manet(_[a-z]+)+", name)
        assert not re.search(r"milli|micro|_ms\b|kilo|_count$|_sum$|_bucket$|gauge|histogram|counter", name), name
        assert family.type in {"counter", "gauge", "histogram"}
        assert family.documentation.endswith("."), f"{name} does not say what it is"
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{name}_total", f"{name}_created"}
        if family.type == "histogram":
            _check_histogram(family)


def _check_histogram(family: Metric) -> None:
    """Hold each series of a histogram to: buckets that rise, the last of them all that was counted."""
    by_labels: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            labels = tuple(value for name, value in sample.labels.items() if name != "le")
            by_labels.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
    counts = values(family, "_count")
    assert set(counts) == set(by_labels)
    for labels, buckets in by_labels.items():
        assert buckets == sorted(buckets)
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1] == (float("inf"), counts[labels])


async def test_no_request_however_odd_can_add_a_series_of_its_own() -> None:
    async with running(make_app()) as client:
        await _be_odd(client, "first")
        before = series((await read(client)).values())
        for word in ("second", "third"):
            await _be_odd(client, word)
        after = series((await read(client)).values())

    assert after == before
    routes = {part.removeprefix("route=") for one in after for part in one if part.startswith("route=")}
    known = {"/", "/predict", "/metrics", "/v2/models/{model}", "/v2/models/{model}/versions/{version}/ready", "other"}
    assert routes == known
    assert len(after) < 500


async def _be_odd(client: httpx.AsyncClient, word: str) -> None:
    """Send what a stranger may send, and nothing that is of use."""
    for path in (f"/{word}", f"/predict/{word}", f"//{word}", f"/%00{word}", f"/{word * 500}", f"/{word}/../{word}"):
        for method in ("GET", "POST", word.upper()):
            await client.request(method, path)
    for method in (word.upper(), "TRACE", "GET", "DELETE"):
        await client.request(method, f"/predict?{word}={word}")
    await client.get(f"/v2/models/{word}")
    await client.get(f"/v2/models/{word}/versions/{word}/ready")
    await client.post("/predict", files={"image": (word, word.encode())}, headers={"x-request-id": word, "host": word})
    await client.get("/metrics")
