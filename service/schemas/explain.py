"""Explained: what `/explain` answers, as clients see it."""

from typing import Annotated

from pydantic import Field, NonNegativeInt

from manet.explain.result import PatchName
from manet.labels import Expression
from service.schemas.predict import Answer, Face, Image, Share

Grid = Annotated[list[list[float]], Field(description="Rows of numbers, from the upper left of the face.")]
Png = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"})]


class Vote(Answer):
    """What one of the two branches says by itself, and where it read it."""

    expression: Expression
    """The branch's own most probable expression."""
    confidence: Share
    """Its probability."""
    probabilities: dict[Expression, Share]
    """The fused ones are both branches' weighted geometric mean, scaled to sum to 1."""
    score: float
    """Of the explained expression: its logit less the mean of the branch's logits."""
    bias: float
    """What is added to the score wherever one looks; `evidence` and `bias` sum to it."""
    evidence: Grid
    """What each position adds to the score, in logits; below zero where it speaks against the expression.

    By Grad-CAM in the local branch, by integrated gradients in the multi-scale one."""


class Patch(Answer):
    """One of the four quarters of the face, each of which the local module sees alone."""

    name: PatchName
    """Left and right are the image's."""
    evidence: float
    """What its positions add to the local branch's score, in logits."""
    share: Share
    """Its part in what the four patches say for the expression; they sum to 1, or are all 0 where none does."""
    attention: Share
    """The mean of its spatial gate (CBAM): how much the local module lets through there."""


class Overlays(Answer):
    """Images of 320 x 320 px: the face as the network saw it, and each map over it."""

    face: Png
    """Aligned and reduced; without a map."""
    local: Png
    """The local branch's evidence: red speaks for the explained expression, blue against it."""
    multi_scale: Png
    """The multi-scale branch's evidence, likewise."""
    attention: Png
    """The local module's attention: bright where it lets through, dark where not."""


class FaceExplanation(Answer):
    """What the network went by in one face."""

    expression: Expression
    """The explained one: the answered one, or the one that was requested."""
    fusion_weight: Share
    """The local branch's part in the answer."""
    local: Vote
    multi_scale: Vote
    patches: list[Patch]
    """The four quarters of the face, row by row."""
    attention: Grid
    """The spatial gates of the four patches, put together; 0 to 1."""
    overlays: Overlays | None
    """Null where none was requested."""


class ExplainedFace(Face):
    """A face, its apparent expression as `/predict` answers it, and why."""

    explanation: FaceExplanation


class ExplainedImage(Answer):
    """What one image shows, and why."""

    model: str
    """Id of the weights that answered."""
    image: Image
    faces_total: NonNegativeInt
    """How many faces were found; `faces` has no more of them than `max_faces`."""
    faces: list[ExplainedFace]
    """The largest first; empty when no face was found."""
