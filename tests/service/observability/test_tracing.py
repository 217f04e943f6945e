"""Tracing: spans as a collector receives them, and what becomes of requests when there is none."""

import asyncio
import gzip
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import HttpUrl, ValidationError

from service import settings
from service.observability.tracing import Tracing
from service.settings import Settings
from testing.fakes import NO_FACE, RED_FACE, SIDE, WEIGHTS, FakeBackend, encode, make_app, paint, post, running
from testing.live import live

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TWO_FACES = encode(paint((255, 0, 0), (0, 0, 255)))


class Collector:
    """What takes spans in, by OTLP over HTTP."""

    def __init__(self, *, held: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.go = threading.Event()
        if not held:
            self.go.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.go.wait(30)
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.bodies.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def spans(self) -> list[Span]:
        """Every span so far, in the order in which they began."""
        found: list[Span] = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found += scope.spans
        return sorted(found, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano))

    def stop(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collecting = Collector()
    yield collecting
    collecting.stop()


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


def children(spans: list[Span], parent: Span) -> list[Span]:
    return [span for span in spans if span.parent_span_id == parent.span_id]


async def test_a_request_is_a_span_with_a_child_for_each_stage(collector: Collector) -> None:
    began = time.time_ns()
    async with running(make_app(FakeBackend(seconds=0.05), otlp_endpoint=collector.url)) as client:
        await post(client, TWO_FACES)
    spans = collector.spans
    [request] = [span for span in spans if not span.parent_span_id]
    [image] = children(spans, request)
    stages = children(spans, image)

    assert (request.name, request.kind) == ("POST /predict", Span.SPAN_KIND_SERVER)
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
    }
    assert (image.name, attributes(image)) == ("image", {"manet.faces": 2})
    assert [(stage.name, attributes(stage)) for stage in stages] == [
        ("find", {}),
        ("queue", {}),
        ("infer", {"manet.batch.size": 2}),
    ]
    assert stages[2].end_time_unix_nano - stages[2].start_time_unix_nano >= 0.05e9
    edges = [began, request.start_time_unix_nano, image.start_time_unix_nano]
    assert edges == sorted(edges)
    for before, after in pairwise(stages):
        assert abs(after.start_time_unix_nano - before.end_time_unix_nano) < 5e6


async def test_an_image_without_a_face_never_waited(collector: Collector) -> None:
    async with running(make_app(otlp_endpoint=collector.url)) as client:
        await post(client, NO_FACE)

    assert sorted(span.name for span in collector.spans) == ["POST /predict", "find", "image"]


async def test_each_image_of_many_and_a_tensor_are_traced_alike(collector: Collector) -> None:
    images = np.full((3, SIDE, SIDE, 3), 9, np.uint8)
    tensor = {"name": "images", "shape": images.shape, "datatype": "UINT8", "data": images.ravel().tolist()}
    async with running(make_app(otlp_endpoint=collector.url)) as client:
        await client.post("/predict/batch", files=[("images", RED_FACE), ("images", b"no image")])
        await client.post(f"/v2/models/{WEIGHTS.id}/infer", json={"inputs": [tensor]})
    spans = collector.spans
    many, infer = [span for span in spans if not span.parent_span_id]

    good, bad = sorted(children(spans, many), key=lambda span: span.status.code)
    assert [span.name for span in children(spans, good)] == ["find", "queue", "infer"]
    assert (bad.status.code, attributes(bad)) == (2, {"error.type": "ImageFormatError"})
    assert infer.name == "POST /v2/models/{model}/infer"
    assert [attributes(span) for span in children(spans, infer)] == [{}, {"manet.batch.size": 3}]


async def test_it_joins_the_trace_that_the_client_began(collector: Collector) -> None:
    async with running(make_app(otlp_endpoint=collector.url)) as client:
        for traceparent in (f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00", "nonsense"):
            await client.get("/model", headers={"traceparent": traceparent})
    joined, own = collector.spans  # the second client said that it is not recorded

    assert (joined.trace_id.hex(), joined.parent_span_id.hex()) == (TRACE, PARENT)
    assert own.trace_id.hex() != TRACE


async def test_traces_have_nothing_of_the_image_its_name_or_a_key(collector: Collector) -> None:
    secrets = {
        "authorization": "Bearer hush-1",
        "x-api-key": "hush-2",
        "x-request-id": "hush-3",
        "user-agent": "hush-4",
        "tracestate": "vendor=fine",
    }
    async with running(make_app(otlp_endpoint=collector.url)) as client:
        for path in ("/predict?key=hush-5", "/hush-6/hush-7"):
            await client.post(path, files={"image": ("hush-8.png", RED_FACE)}, headers=secrets)
        await client.post("/predict", files={"image": ("hush-9.png", b"hush-10")})
        await client.request("HUSH-11", "/predict")
        await client.get("/health/live")
        await client.get("/metrics")

    told = b"".join(collector.bodies)
    assert b"hush" not in told.lower()
    assert b"Traceback" not in told
    assert RED_FACE[:32] not in told
    names = {span.name for span in collector.spans}
    assert names == {"POST /predict", "POST", "_OTHER /predict", "image", "find", "queue", "infer"}
    known = {"http.request.method", "http.route", "http.response.status_code", "manet.faces", "manet.batch.size"}
    assert {key for span in collector.spans for key in attributes(span)} == known | {"error.type"}


async def test_a_collector_that_is_gone_costs_no_request(caplog: pytest.LogCaptureFixture) -> None:
    gone = Collector()
    gone.stop()
    async with running(make_app(otlp_endpoint=gone.url)) as client:
        answers = await asyncio.gather(*(post(client, RED_FACE) for _ in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert [record for record in caplog.records if record.levelno >= logging.ERROR]  # the operator is told


async def test_a_collector_that_does_not_answer_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracing, "CLOSING", 0.5)
    slow = Collector(held=True)
    try:
        async with running(make_app(otlp_endpoint=slow.url)) as client:
            assert (await post(client, RED_FACE)).status_code == 200
            began = time.monotonic()
        assert time.monotonic() - began < 3
    finally:
        slow.stop()


def test_it_is_off_by_default_and_then_not_even_imported() -> None:
    assert Settings().otlp_endpoint is None
    program = (
        "import sys, service.__main__\n"
        "from testing.fakes import make_app\n"
        "make_app()\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_framework_sends_no_traces_by_itself(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.removesuffix("/v1/traces"))
    with live(make_app()) as served:
        answer = httpx.post(f"{served.address}/predict", params={"max_faces": "a secret"}, files={"image": RED_FACE})

    assert answer.status_code == 422
    assert collector.bodies == []


def test_without_the_extra_the_setting_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str) -> None:
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(settings, "find_spec", absent)
    with pytest.raises(ValidationError, match=r"pip install 'manet\[otel\]'"):
        Settings(otlp_endpoint=HttpUrl("http://localhost:4318/v1/traces"))
