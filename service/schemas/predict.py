"""Schemas: what the service answers, as clients see it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from manet.backends.base import Backend
from manet.labels import Expression
from manet.recognizer import RecognizedFace
from manet.tracking import FollowedFace
from manet.weights.entry import Weights

Share = Annotated[float, Field(ge=0, le=1)]


class Answer(BaseModel):
    """The root of what is answered: every field is there."""

    model_config = ConfigDict(
        frozen=True,
        from_attributes=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,  # every field is in every answer, null where it says nothing
    )


class Image(Answer):
    """The image as it was looked at: upright, whatever its file said."""

    width: PositiveInt
    """Pixels."""
    height: PositiveInt
    """Pixels."""


class EncodedImage(BaseModel):
    """An image in JSON, for clients that can send nothing else; a form or the bare bytes are a quarter smaller."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    image: Annotated[str, Field(json_schema_extra={"format": "byte"})]
    """The file in base64 (RFC 4648), or as a data URI in base64 (RFC 2397). URLs are not fetched."""


class Box(Answer):
    """A rectangle in pixels of the upright image, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


class Point(Answer):
    """A place in pixels of the upright image."""

    x: float
    y: float


class FacePoints(Answer):
    """The five points of a face; left and right are the image's, with the face upright in it."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point


class Face(Answer):
    """A face and its apparent expression; where it lies is null when the image was taken as one face."""

    box: Box | None
    detection_confidence: Share | None
    """How sure the detector is that this is a face."""
    landmarks: FacePoints | None
    expression: Expression
    """The most probable apparent expression."""
    confidence: Share
    """Its probability."""
    probabilities: dict[Expression, Share]
    """Of every expression that the weights know; they sum to 1."""

    @classmethod
    def of(cls, face: RecognizedFace) -> "Face":
        """Return the answer for one face."""
        return cls.model_validate(face.record())


class Prediction(Answer):
    """What one image shows."""

    model: str
    """Id of the weights that answered; `GET /model` has the rest."""
    image: Image
    faces_total: NonNegativeInt
    """How many faces were found; `faces` has no more of them than `max_faces`."""
    faces: list[Face]
    """The largest first; empty when no face was found."""


class TrackedFace(Face):
    """A face in a stream; its expression and confidence are those of the smoothed probabilities."""

    track: PositiveInt
    """A number that lasts while the face is followed, and is never given twice in a stream."""
    smoothed: dict[Expression, Share]
    """The probabilities, averaged over the track; `probabilities` are of this frame alone."""

    @classmethod
    def followed(cls, face: FollowedFace) -> "TrackedFace":
        """Return the answer for one face of a frame."""
        return cls.model_validate(face.record())


class _FrameOutcome(Answer):
    frame: int
    """Which frame, counted from 0 as they arrived."""
    age_ms: float
    """Milliseconds from the frame's arrival to its answer."""
    dropped: int
    """Frames of this stream that newer ones overtook, so far."""


class FrameAnswer(_FrameOutcome, Prediction):
    """What one frame of a stream shows."""

    faces: list[TrackedFace]  # type: ignore[assignment]  # narrower, and frozen
    """The largest first; empty when no face was found."""


class FrameProblem(_FrameOutcome):
    """Why one frame of a stream has no answer; the stream goes on."""

    problem: "Problem"
    retry_after: int | None
    """Seconds after which a frame may be admitted again, where that is known."""


class Row(Answer):
    """What became of one image of many: either a prediction or a problem."""

    prediction: Prediction | None = None
    problem: "Problem | None" = None


class Predictions(Answer):
    """What became of each image, in the order in which they were sent."""

    results: list[Row]


class Measurement(Answer):
    """How well the weights did on one split of a data set; all rates in percent."""

    dataset: str
    split: str
    protocol: str
    n: int
    accuracy: float
    last: float | None
    mean_of_last_ten: float | None
    macro_recall: float | None
    per_class: tuple[float, ...] | None
    source: str


class Input(Answer):
    """What the network is given."""

    input_size: int
    colour: str
    detail_size: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Engine(Answer):
    """What runs the network."""

    name: str
    precision: str
    """The number format that it runs in."""
    device: str
    reason: str
    """Why this one, and in this number format."""


class Model(Answer):
    """What is loaded, how well it was measured to do, and what it is for."""

    id: str
    dataset: str
    classes: tuple[Expression, ...]
    wiring: str
    fusion_weight: float
    temperature: float
    preprocessing: Input
    sha256: str | None
    measured: tuple[Measurement, ...]
    published: tuple[Measurement, ...]
    licence: str
    provenance: str
    intended_use: str
    limits: tuple[str, ...]
    backend: Engine
    card: str | None
    """Path of the model card on this service, or null where no one wrote one."""

    @classmethod
    def of(cls, weights: Weights, backend: Backend | Engine, *, prefix: str = "") -> "Model":
        """Return the description of these weights in this engine, whose paths stand behind a prefix."""
        facts = {name: getattr(weights, name) for name in cls.model_fields if name != "backend"}
        card = weights.card and f"{prefix}/model/card"
        return cls.model_validate({**facts, "backend": backend, "card": card})


class Health(Answer):
    """A probe's answer."""

    status: Literal["live", "ready"]


class Problem(Answer):
    """What went wrong (RFC 9457)."""

    type: str
    """A stable name for the kind of problem: compare this, and nothing else, in a program."""
    title: str
    """The kind of problem in words."""
    status: Annotated[int, Field(ge=400, le=599)]
    """The HTTP status."""
    detail: str
    """What went wrong this time, in a sentence; nothing of the image."""
