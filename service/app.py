"""App: the composition root; here, and only here, the service's parts are made and put together."""

import contextlib
import logging
from collections.abc import AsyncIterator

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
from service.engine import NetworkEngine
from service.metrics import Metrics
from service.middleware import RequestId, Stopwatch
from service.parts import Parts
from service.predictor import Predictor
from service.routes import health, metrics, model, page, predict
from service.settings import Settings

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
    parts = _parts(settings, recognizer, clock)

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
    problems.install(app)
    for route in (predict, model, health, metrics, page):
        app.include_router(route.router)
    return app


def _parts(settings: Settings, recognizer: Recognizer, clock: Clock) -> Parts:
    observer = Metrics()
    scheduler = Scheduler(
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
    predictor = Predictor(
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
