"""Model: what is loaded and what it is for."""

from typing import Annotated

from fastapi import APIRouter, Depends

from service.parts import Parts, parts
from service.schemas import Model

router = APIRouter(tags=["model"])


@router.get("/model", operation_id="getModel", summary="What is loaded?")
async def model(parts: Annotated[Parts, Depends(parts)]) -> Model:
    """Tell the weights, their classes and preprocessing, how well they were measured to do, and their limits."""
    return Model.of(parts.recognizer.weights, parts.recognizer.backend)
