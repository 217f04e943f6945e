"""State: the objects that an application is made of, where its handlers find them."""

from dataclasses import dataclass

from fastapi import Request
from fastapi.requests import HTTPConnection

from manet.recognizer import Recognizer
from service.admission import Admission
from service.batching.scheduler import BatchScheduler
from service.clock import Clock
from service.inference.explainer import ExplanationWorker
from service.inference.predictor import Predictor
from service.inference.stream_session import StreamRegistry
from service.observability.metrics import Metrics
from service.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """One object of each kind, made in ``service.app``; an application keeps it as ``app.state.service``."""

    settings: Settings
    clock: Clock
    recognizer: Recognizer
    scheduler: BatchScheduler
    admission: Admission
    predictor: Predictor
    explanations: ExplanationWorker
    streams: StreamRegistry
    metrics: Metrics


def state_of(connection: HTTPConnection) -> ServiceState:
    """Return the state of the application that a request or a websocket came to."""
    found: ServiceState = connection.app.state.service
    return found


async def state(request: Request) -> ServiceState:
    """Return it as a dependency, which costs a request 20 microseconds more.

    A coroutine, though it waits for nothing: FastAPI would send a plain function to a thread and back.
    """
    return state_of(request)
