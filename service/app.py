"""App: the composition root; here, and only here, the service's parts are made and put together."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

import manet
from manet.pictures import PictureLimits
from manet.recognizer import Recognizer
from service import problems
from service.admission import Admission, Bounds
from service.batching.policy import BatchPolicy
from service.batching.scheduler import Scheduler
from service.clock import Clock
from service.cpus import available_cpus
from service.detector import TimedDetector
from service.engine import NetworkEngine
from service.metrics import Metrics
from service.middleware import RequestId, Stopwatch
from service.parts import Parts
from service.predictor import Predictor
from service.routes import health, metrics, model, predict, v2
from service.settings import Settings

if TYPE_CHECKING:
    from service.tracing import Tracing

_log = logging.getLogger("manet.app")

_MOST_WORKERS = 8

_DESCRIPTION = """
Send a picture, get each face and its apparent expression with named probabilities.

"Apparent expression" is what an onlooker would name, not what the person feels; `GET /model` tells the intended use
and its limits. Pictures are held in memory for as long as their answer takes, and nothing of them is logged. Every
error is `application/problem+json` (RFC 9457) with a stable `type`.
"""


def create_app(settings: Settings, recognizer: Recognizer, clock: Clock) -> FastAPI:
    """Return the application; its lifespan warms the network up, and closes it in the end.

    Args:
        settings: all choices.
        recognizer: the network and the detector, loaded.
        clock: the time.
    """
    tracing = _tracing(settings)
    parts = _parts(settings, recognizer, clock, tracing)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await parts.scheduler.start()
        backend = recognizer.backend
        served_by = f"{backend.name}, {backend.precision}, {backend.device}"
        _log.info("ready: weights %s on %s", recognizer.weights.id, served_by)
        try:
            yield
        finally:
            parts.admission.draining = True
            parts.predictor.close()
            await parts.scheduler.stop()
            if tracing is not None:
                await tracing.close()

    app = FastAPIOffline(  # /docs without a byte from another host
        title="MA-Net",
        summary="Apparent facial expressions in pictures.",
        description=_DESCRIPTION,
        version=manet.__version__,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.parts = parts
    app.add_middleware(Stopwatch, clock=clock, observer=parts.metrics)
    app.add_middleware(RequestId)
    if tracing is not None:
        app.add_middleware(tracing.middleware)
    problems.install(app)
    for route in (predict, v2, model, health, metrics):
        app.include_router(route.router)
    return app


def _tracing(settings: Settings) -> "Tracing | None":
    if settings.otlp_endpoint is None:
        return None
    # Imported late, so that a process which traces nothing loads nothing for it.
    from service.tracing import Tracing  # noqa: PLC0415

    return Tracing(str(settings.otlp_endpoint), wall=time.time_ns)


def _parts(settings: Settings, recognizer: Recognizer, clock: Clock, tracing: "Tracing | None") -> Parts:
    observer = Metrics()
    recognizer = _observed(recognizer, clock, observer)
    new_scheduler = Scheduler if tracing is None else tracing.scheduler
    new_predictor = Predictor if tracing is None else tracing.predictor
    scheduler = new_scheduler(
        NetworkEngine(recognizer.backend, len(recognizer.weights.classes)),
        side=recognizer.weights.preprocessing.input_size,
        policy=BatchPolicy(settings.max_batch_size, settings.batch_window),
        capacity=settings.max_queued_faces,
        clock=clock,
        observer=observer,
    )
    admission = Admission(
        Bounds(settings.max_pictures, settings.max_bytes_in_flight, settings.deadline),
        engine=scheduler,
        clock=clock,
        observer=observer,
    )
    predictor = new_predictor(
        recognizer,
        scheduler,
        limits=PictureLimits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels),
        workers=settings.workers or min(available_cpus(), _MOST_WORKERS),
        clock=clock,
        observer=observer,
    )
    observer.watch("manet_ready", "1 while pictures are let in.", lambda: float(admission.ready))
    observer.watch("manet_queue_depth", "Faces that wait for the network.", lambda: float(scheduler.depth))
    observer.watch("manet_pictures_in_work", "Pictures let in and not answered.", lambda: float(admission.pictures))
    return Parts(
        settings=settings,
        recognizer=recognizer,
        scheduler=scheduler,
        admission=admission,
        predictor=predictor,
        metrics=observer,
    )


def _observed(recognizer: Recognizer, clock: Clock, observer: Metrics) -> Recognizer:
    """Return a recognizer whose detector is timed, and tell the observer what serves."""
    weights, backend = recognizer.weights, recognizer.backend
    observer.build(
        version=manet.__version__,
        weights=weights.id,
        backend=backend.name,
        precision=backend.precision,
        device=backend.device,
    )
    return Recognizer(weights, backend, TimedDetector(recognizer.detector, clock=clock, observer=observer))
