"""Model: what is loaded and what it is for."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse

from manet.weights.registry import read_card
from service.errors import NoModelCardError
from service.middleware.request_line import prefix_of
from service.openapi.document import succeeded
from service.problems import documented
from service.schemas.predict import Model
from service.state import ServiceState, state

router = APIRouter(tags=["model"])


class Markdown(PlainTextResponse):
    """A text in Markdown (RFC 7763)."""

    media_type = "text/markdown"


@router.get(
    "/model",
    operation_id="getModel",
    summary="What is loaded?",
    responses=succeeded("What is loaded."),
)
async def model(request: Request, state: Annotated[ServiceState, Depends(state)]) -> Model:
    """Return the weights, their classes and preprocessing, their measured accuracy, and their limits."""
    return Model.of(state.recognizer.weights, state.recognizer.backend, prefix=prefix_of(request.scope))


@router.get(
    "/model/card",
    operation_id="getModelCard",
    summary="What should one know before using it?",
    response_class=Markdown,
    responses=succeeded("The model card.") | documented(NoModelCardError),
)
async def card(state: Annotated[ServiceState, Depends(state)]) -> Markdown:
    """Return the model card of the weights: data and rights, measurements, intended use, known failures."""
    weights = state.recognizer.weights
    text = read_card(weights)
    if text is None:
        raise NoModelCardError(f"no one wrote a model card for the weights {weights.id}")
    return Markdown(text)
