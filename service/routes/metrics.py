"""Metrics: what the service counts and times, for Prometheus."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.openapi.document import succeeded
from service.state import ServiceState, state

router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    responses=succeeded("All metrics in Prometheus's text format."),
)
async def metrics(state: Annotated[ServiceState, Depends(state)]) -> Response:
    """Return all metrics in Prometheus's text format."""
    return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
