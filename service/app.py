"""App: the composition root; here, and only here, the service's parts are made and put together."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline

import manet
from manet.backends.base import Backend
from manet.cpus import image_threads
from manet.recognizer import Recognizer
from manet.vision.formats import BYTES_A_PIXEL
from manet.vision.images import ImageLimits
from service import problems
from service.admission import Admission, AdmissionLimits, Usage
from service.batching.scheduler import BatchScheduler
from service.clock import Clock
from service.concurrency import Budget
from service.errors import InternalError, RateLimitedError, UnauthorizedError
from service.inference.detector import DetectorGuard, DetectorHealth, TimedDetector
from service.inference.engine import make_scheduler
from service.inference.explainer import ExplanationWorker, FaceExplainer, load_explainer
from service.inference.predictor import Predictor
from service.inference.stream_session import StreamRegistry
from service.keys import read_keys
from service.middleware.api_keys import ApiKeyMiddleware, is_open
from service.middleware.load_shedding import LoadSheddingMiddleware
from service.middleware.rate_limit import RateLimiter, RateLimitMiddleware, RateWindow
from service.middleware.request_id import RequestIdMiddleware
from service.middleware.request_line import HeadMiddleware, PrefixMiddleware
from service.middleware.security_headers import SecurityHeadersMiddleware
from service.middleware.timing import TimingMiddleware
from service.observability.metrics import Metrics
from service.openapi import document
from service.places import Places
from service.problems import documented
from service.routes import explain, health, metrics, model, page, predict, stream, v2
from service.schemas.predict import EncodedImage
from service.schemas.v2 import InferenceRequest
from service.schemas.v2_codec import JSON_LENGTH
from service.settings import Settings
from service.state import ServiceState

if TYPE_CHECKING:
    from service.observability.tracing import Tracing

_log = logging.getLogger("manet.app")

_SENT = ("X-Request-ID", JSON_LENGTH, "Content-Encoding", "traceparent", "tracestate", "baggage")
"""Headers besides keys that a page of another origin may send: those of ``/v2`` and of traces (W3C Trace Context and
Baggage)."""

_DESCRIPTION = """
Send an image, get each face and its apparent expression with named probabilities.

"Apparent expression" is what an onlooker would name, not what the person feels; `GET /model` returns the intended use
and its limits. Images are held in memory for as long as their answer takes, and nothing of them is logged. Every
error is `application/problem+json` (RFC 9457) with a stable `type`; besides what each operation names, an unknown path
is answered with 404 and a known path's unknown method with 405, and a request whose head is too large or too slow with
431, 414 or 408, on a connection that is then closed.

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedParts:
    """What an application has in common with others where it is one front end of several (``service.processes``).

    Attributes:
        scheduler: hands faces to the engine's process.
        explainer: hands faces to the explainer's process.
        metrics: of the whole service.
        usage: what all front ends have in flight.
        requests: of each client, in flight on all front ends.
        streams: of each client, open on all front ends.
        window: counts the requests of clients in a time, on all front ends.
        detection: returns the health of all detectors, where this process's is the argument.
    """

    scheduler: BatchScheduler
    explainer: FaceExplainer
    metrics: Metrics
    usage: Usage
    requests: Places
    streams: Places
    window: RateWindow | None
    detection: Callable[[DetectorHealth], DetectorHealth]


def create_app(
    settings: Settings,
    recognizer: Recognizer,
    clock: Clock,
    *,
    reload: Callable[[], Backend] | None = None,
    shared: SharedParts | None = None,
) -> FastAPI:
    """Return the application; its lifespan warms the network up, and closes it in the end.

    Args:
        settings: all choices.
        recognizer: the network and the detector, loaded.
        clock: the time.
        reload: loads the network once more, in place of one that was lost; without it, that is the end.
        shared: what other front ends share with it; None where it is the whole service.
    """
    tracing = _tracing(settings)
    state = _state(settings, recognizer, clock, reload=reload, shared=shared, tracing=tracing)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await state.scheduler.start()
        backend = recognizer.backend
        _log.info("ready: weights %s on %s (%s)", recognizer.weights.id, backend.device, backend.reason)
        try:
            yield
        finally:
            state.admission.draining = True
            state.predictor.close()
            state.explanations.close()
            await state.scheduler.stop()
            if tracing is not None:
                await tracing.close()

    app = FastAPIOffline(  # /docs without a byte from another host
        title="MA-Net",
        summary="Apparent facial expressions in images.",
        description=_DESCRIPTION + problems.table(),
        version=manet.__version__,
        license_info={"name": "MIT", "identifier": "MIT"},
        openapi_tags=document.TAGS,
        responses=problems.documented(InternalError),
        # FastAPI's own would record errors and their traces wherever the environment names a collector.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # to an address that a proxy may know by another name
    )
    app.state.service = state
    problems.install(app)
    _surround(app, settings, clock, state, shared)
    if tracing is not None:
        app.add_middleware(tracing.middleware)
    for route in (predict, v2, model, metrics, *([explain] if settings.explain else [])):
        app.include_router(route.router, responses=documented(UnauthorizedError, RateLimitedError))
    for router in (v2.probes, health.router, page.router, stream.router):
        app.include_router(router)
    return app


def _surround(app: FastAPI, settings: Settings, clock: Clock, state: ServiceState, shared: SharedParts | None) -> None:
    """Put the middleware around an application, the innermost first; what is not requested is not there at all."""
    app.add_middleware(
        LoadSheddingMiddleware, admission=state.admission, paths=("/predict", "/predict/batch", "/explain")
    )
    if settings.rate_limit is not None or settings.max_client_requests is not None:
        import limits  # noqa: PLC0415 - as in OwnWindow

        rate = None if settings.rate_limit is None else limits.parse(settings.rate_limit)
        limiter = RateLimiter(
            rate=rate,
            at_once=settings.max_client_requests,
            window=None if shared is None else shared.window,
            places=None if shared is None else shared.requests,
        )
        app.add_middleware(RateLimitMiddleware, limiter=limiter)
    keys = read_keys([key.get_secret_value() for key in settings.api_keys], settings.api_keys_file)
    if keys:
        app.add_middleware(ApiKeyMiddleware, keys=keys)
    app.add_middleware(TimingMiddleware, clock=clock, observer=state.metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "X-API-Key", *_SENT],
            expose_headers=["Server-Timing", "Retry-After", "X-Request-ID", JSON_LENGTH],
        )
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(HeadMiddleware)
    if settings.root_path or settings.trusted_proxies:
        app.add_middleware(PrefixMiddleware, prefix=settings.root_path, trusted=list(settings.trusted_proxies))
    document.install(
        app,
        bodies=[EncodedImage, InferenceRequest],
        needs_key=lambda path: bool(keys) and not is_open(path),
        max_faces=settings.max_faces,
    )


def _tracing(settings: Settings) -> "Tracing | None":
    if settings.otlp_endpoint is None:
        return None
    # Imported late, so that a process which traces nothing loads nothing for it.
    from service.observability.tracing import Tracing  # noqa: PLC0415

    return Tracing(str(settings.otlp_endpoint), wall=time.time_ns)


def _state(
    settings: Settings,
    recognizer: Recognizer,
    clock: Clock,
    *,
    reload: Callable[[], Backend] | None,
    shared: SharedParts | None,
    tracing: "Tracing | None",
) -> ServiceState:
    observer = Metrics() if shared is None else shared.metrics
    recognizer = _observed(recognizer, clock, observer)
    side = recognizer.weights.preprocessing.input_size
    scheduler = _scheduler(settings, recognizer, clock, observer, reload) if shared is None else shared.scheduler
    if tracing is not None:
        scheduler = tracing.scheduler(scheduler)
    new_predictor = Predictor if tracing is None else tracing.predictor
    admission = Admission(
        AdmissionLimits(
            uploads=settings.max_uploads,
            images=settings.max_inflight_images,
            bytes=settings.max_bytes_in_flight,
            deadline=settings.deadline,
        ),
        engine=scheduler,
        clock=clock,
        observer=observer,
        usage=None if shared is None else shared.usage,
    )
    guard = DetectorGuard(partial(recognizer.find, np.zeros((side, side, 3), np.uint8)), clock=clock)
    memory = Budget(BYTES_A_PIXEL * settings.decoded_pixels_each)
    readable = ImageLimits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)
    predictor = new_predictor(
        recognizer,
        scheduler,
        guard=guard,
        limits=readable,
        memory=memory,
        workers=settings.workers or image_threads(),
        clock=clock,
        observer=observer,
    )
    explanations = ExplanationWorker(
        recognizer,
        limits=readable,
        memory=memory,
        most=settings.max_explanations,
        clock=clock,
        load=partial(load_explainer, recognizer, settings.weights_dir) if shared is None else lambda: shared.explainer,
        usage=None if shared is None else shared.usage,
    )
    streams = StreamRegistry(
        most=settings.max_streams,
        most_each=settings.max_client_requests,
        places=None if shared is None else shared.streams,
    )
    _watch(observer, admission, scheduler, guard if shared is None else shared.detection(guard), streams)
    return ServiceState(
        settings=settings,
        clock=clock,
        recognizer=recognizer,
        scheduler=scheduler,
        admission=admission,
        predictor=predictor,
        explanations=explanations,
        streams=streams,
        metrics=observer,
    )


def _watch(
    observer: Metrics,
    admission: Admission,
    scheduler: BatchScheduler,
    detector: DetectorHealth,
    streams: StreamRegistry,
) -> None:
    """Have the metrics look at what changes by itself."""
    watch = observer.watch
    watch("manet_streams", "Streams that are open.", lambda: float(streams.open))
    watch("manet_ready", "1 while images are admitted.", lambda: float(admission.ready))
    watch("manet_queue_depth", "Faces that wait for the network.", lambda: float(scheduler.depth))
    watch("manet_uploads_arriving", "Bodies on their way in.", lambda: float(admission.uploads))
    watch("manet_upload_bytes", "Bytes of bodies in memory.", lambda: float(admission.bytes))
    watch("manet_images_in_flight", "Images admitted and not answered.", lambda: float(admission.images))
    watch("manet_engine_rebuilds", "Networks rebuilt.", lambda: float(scheduler.rebuilt))
    watch("manet_engines_hanging", "Networks that hang, abandoned.", lambda: float(scheduler.abandoned))
    watch("manet_detector_ready", "1 while face detection is available.", lambda: float(detector.alive))
    watch("manet_detections_failed", "Searches for faces that failed.", lambda: float(detector.failures))


def _scheduler(
    settings: Settings,
    recognizer: Recognizer,
    clock: Clock,
    observer: Metrics,
    reload: Callable[[], Backend] | None,
) -> BatchScheduler:
    return make_scheduler(
        settings,
        recognizer.weights,
        recognizer.backend,
        clock=clock,
        observer=observer,
        reload=None if settings.on_engine_failure == "exit" else reload,
    )


def _observed(recognizer: Recognizer, clock: Clock, observer: Metrics) -> Recognizer:
    """Return a recognizer whose detector is timed, and report what serves to the observer."""
    weights, backend = recognizer.weights, recognizer.backend
    observer.build(
        version=manet.__version__,
        weights=weights.id,
        backend=backend.name,
        precision=backend.precision,
        device=backend.device,
    )
    return Recognizer(weights, backend, TimedDetector(recognizer.detector, clock=clock, observer=observer))
