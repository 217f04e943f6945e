"""Tracing: where the time of each request went, reported to a collector by OpenTelemetry; imported only where it is on.

A request is a span; below it each image is one, with ``find`` (decode and detect), ``queue`` and ``infer`` as its
children. A span carries the method, the route's template, the status, and sizes of batches. The ready-made
instrumentation also records paths, queries, user agents and addresses, and has no option against that; so the spans
are made here.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar, cast

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import manet
from manet.vision.preprocess import Pixels
from service.batching.scheduler import BatchScheduler, InferenceResult
from service.inference.predictor import PredictionResult, Predictor

_log = logging.getLogger("manet.tracing")

_SECOND = 1_000_000_000
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_QUIET = ("/health/", "/metrics", "/v2/health/")
"""Paths that are asked every few seconds and tell nothing."""
_SERVER_ERROR = 500


class Tracing:
    """Sends spans to a collector in a thread of its own; a collector that is slow or gone costs spans, never requests.

    Args:
        endpoint: URL of the collector's traces, OTLP over HTTP.
        wall: nanoseconds since 1970.
    """

    CLOSING: ClassVar[float] = 5.0
    """Seconds in which the last spans must have been sent."""
    _EXPORT: ClassVar[float] = 2.0
    """Seconds that one batch of spans may take, tries and all."""
    _MOST_SPANS: ClassVar[int] = 2048
    """Spans that wait; more are dropped."""

    def __init__(self, endpoint: str, *, wall: Callable[[], int]) -> None:
        resource = Resource.create({SERVICE_NAME: "manet", SERVICE_VERSION: manet.__version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint, timeout=self._EXPORT)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=self._MOST_SPANS))
        self.tracer = self._provider.get_tracer("manet")
        self.wall = wall

    def middleware(self, app: ASGIApp) -> "RequestSpans":
        """Return an application whose requests are spans."""
        return RequestSpans(app, tracing=self)

    def scheduler(self, traced: BatchScheduler) -> BatchScheduler:
        """Return a scheduler, traced."""
        return cast(BatchScheduler, TracedScheduler(traced, tracing=self))

    def predictor(self, *args: Any, **options: Any) -> "TracedPredictor":
        """Return what ``Predictor`` returns, traced."""
        return TracedPredictor(*args, tracing=self, **options)

    async def close(self) -> None:
        """Send what waits, and give up when that takes too long."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # from here on no one who stops waiting can cancel it

        def shut() -> None:
            try:
                self._provider.shutdown()
            finally:
                done.set_result(None)

        # A daemon, so that a collector that does not answer cannot hold up the end of the process.
        threading.Thread(target=shut, name="tracing-close", daemon=True).start()
        try:
            async with asyncio.timeout(self.CLOSING):
                await asyncio.wrap_future(done)
        except TimeoutError:
            _log.warning("the last spans were not sent within %.0f s", self.CLOSING)


class RequestSpans:
    """Makes a span of every request, in the trace that its ``traceparent`` names (W3C Trace Context)."""

    def __init__(self, app: ASGIApp, *, tracing: Tracing) -> None:
        self._app = app
        self._tracer = tracing.tracer
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on inside its span."""
        if scope["type"] != "http" or scope["path"].startswith(_QUIET):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        carrier = {name: headers[name] for name in self._propagator.fields if name in headers}
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"

        with self._tracer.start_as_current_span(
            method,
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note_status(span, message["status"])
                await send(message)

            try:
                await self._app(scope, receive, noting)
            finally:
                if route := getattr(scope.get("route"), "path", None):
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)


class TracedPredictor(Predictor):
    """A predictor that makes a span of every image."""

    def __init__(self, *args: Any, tracing: Tracing, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tracing = tracing

    async def predict(self, *args: Any, **options: Any) -> PredictionResult:
        """Return what an image shows, as ``Predictor.predict`` does."""
        tracer = self._tracing.tracer
        with tracer.start_as_current_span("image", record_exception=False, set_status_on_exception=False) as span:
            try:
                found = await super().predict(*args, **options)
            except Exception as error:
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", type(error).__name__)
                raise
            began = self._tracing.wall() - round(sum(found.seconds.values()) * _SECOND)
            _past(tracer, "find", began, found.seconds["find"])
            span.set_attribute("manet.faces", len(found.faces))
            return found


class TracedScheduler:
    """A scheduler around which spans are made of the wait and of the work on every group of faces.

    Args:
        traced: the scheduler; what is not defined here is its own.
        tracing: takes the spans.
    """

    def __init__(self, traced: BatchScheduler, *, tracing: Tracing) -> None:
        self._traced = traced
        self._tracing = tracing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._traced, name)

    async def submit(self, faces: Sequence[Pixels], *, deadline: float, lane: object = None) -> InferenceResult:
        """Return the logits of one image's faces, as the scheduler does."""
        answered = await self._traced.submit(faces, deadline=deadline, lane=lane)
        now = self._tracing.wall()
        queued, inferred = round(answered.queued * _SECOND), round(answered.inferred * _SECOND)
        _past(self._tracing.tracer, "queue", now - inferred - queued, answered.queued)
        _past(self._tracing.tracer, "infer", now - inferred, answered.inferred, {"manet.batch.size": answered.batch})
        return answered


def _note_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= _SERVER_ERROR:
        span.set_status(StatusCode.ERROR)


def _past(tracer: Tracer, name: str, began: int, seconds: float, sizes: dict[str, int] | None = None) -> None:
    """Make a span of what is over, below the present one."""
    tracer.start_span(name, start_time=began, attributes=sizes).end(began + round(seconds * _SECOND))
