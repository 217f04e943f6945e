"""Health: whether the process runs, and whether it answers."""

from typing import Annotated

from fastapi import APIRouter, Depends

from service.errors import NotReadyError
from service.openapi.document import succeeded
from service.problems import documented
from service.schemas.predict import Health
from service.state import ServiceState, state

router = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "/live",
    operation_id="getLiveness",
    summary="Does the process run?",
    responses=succeeded("It runs."),
)
async def live() -> Health:
    """Answer as long as the process runs; restart it when this fails."""
    return Health(status="live")


@router.get(
    "/ready",
    operation_id="getReadiness",
    summary="Does it answer?",
    responses=succeeded("It answers.") | documented(NotReadyError),
)
async def ready(state: Annotated[ServiceState, Depends(state)]) -> Health:
    """Answer 200 as long as the network has completed a batch lately and the service is not being stopped."""
    check_ready(state)
    return Health(status="ready")


def check_ready(state: ServiceState) -> None:
    """Return if images are admitted.

    Raises:
        NotReadyError: if they are not; it says why.
    """
    if not state.admission.ready:
        reason = "the service is being stopped" if state.admission.draining else state.scheduler.reason
        raise NotReadyError(reason)
