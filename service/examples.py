"""Examples: answers as the contract shows them, to the portrait of an astronaut that scikit-image ships."""

from pydantic import BaseModel

from manet.labels import Expression
from manet.weights import get
from service.errors import NAMESPACE, UnsupportedPicture
from service.schemas import (
    Box,
    Engine,
    Face,
    FacePoints,
    Health,
    Image,
    Model,
    Point,
    Prediction,
    Predictions,
    Problem,
    Row,
)

_SHARES = {
    Expression.NEUTRAL: 0.0002,
    Expression.HAPPINESS: 0.9994,
    Expression.SURPRISE: 0.0003,
    Expression.SADNESS: 0.0001,
    Expression.ANGER: 0.0,
    Expression.DISGUST: 0.0,
    Expression.FEAR: 0.0,
    Expression.CONTEMPT: 0.0,
}
_LANDMARKS = FacePoints(
    left_eye=Point(x=204.84, y=100.72),
    right_eye=Point(x=247.17, y=103.36),
    nose=Point(x=223.6, y=129.09),
    left_mouth=Point(x=202.51, y=137.95),
    right_mouth=Point(x=244.34, y=140.37),
)
_FOUND = Face(
    box=Box(x=177.97, y=57.47, width=94.62, height=119.78),
    detection_confidence=0.9995,
    landmarks=_LANDMARKS,
    expression=Expression.HAPPINESS,
    confidence=0.9994,
    probabilities=_SHARES,
)
_WHOLE = _FOUND.model_copy(update={"box": None, "detection_confidence": None, "landmarks": None})
_TEXT = Problem(
    type=NAMESPACE + UnsupportedPicture.problem,
    title=UnsupportedPicture.title,
    status=UnsupportedPicture.status,
    detail="not a picture in one of the formats that are read: JPEG, PNG, WebP, BMP",
)


def _prediction(*faces: Face) -> Prediction:
    return Prediction(model="ferplus", image=Image(width=512, height=512), faces=list(faces))


def answers() -> dict[str, dict[str, BaseModel]]:
    """Return answers by operation id, and then by what they show."""
    alone, engine = _prediction(_FOUND), Engine(name="openvino", precision="bf16", device="cpu")
    rows = [Row(prediction=alone, problem=None), Row(prediction=None, problem=_TEXT)]
    return {
        "predict": {
            "one face": alone,
            "no face": _prediction(),
            "the picture taken as one face": _prediction(_WHOLE),
        },
        "predictBatch": {"a portrait and a text": Predictions(results=rows)},
        "getModel": {"the default weights": Model.of(get("ferplus"), engine)},
        "getLiveness": {"live": Health(status="live")},
        "getReadiness": {"ready": Health(status="ready")},
    }
