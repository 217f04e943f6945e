"""Examples: answers as the contract shows them, to the portrait of an astronaut that scikit-image ships."""

from pydantic import BaseModel

import manet
from manet.labels import Expression
from manet.vision.formats import unsupported
from manet.weights.registry import get
from service.errors import NAMESPACE, UnsupportedImageError
from service.schemas.explain import ExplainedFace, ExplainedImage, FaceExplanation
from service.schemas.predict import (
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
from service.schemas.v2 import (
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ResponseOutput,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from service.schemas.v2_codec import IMAGES, OUTPUTS

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
    type=NAMESPACE + UnsupportedImageError.problem,
    title=UnsupportedImageError.title,
    status=UnsupportedImageError.status,
    detail=unsupported(b"%PDF-"),
)


_EXPLANATION = FaceExplanation.model_validate(
    {
        "expression": "happiness",
        "fusion_weight": 0.6,
        "local": {
            "expression": "happiness",
            "confidence": 0.9992,
            "probabilities": {
                "neutral": 0.0002,
                "happiness": 0.9992,
                "surprise": 0.0005,
                "sadness": 0.0,
                "anger": 0.0,
                "disgust": 0.0,
                "fear": 0.0,
                "contempt": 0.0,
            },
            "score": 7.2348,
            "bias": 0.0745,
            "evidence": [
                [0.0444, 0.0513, 0.0585, 0.0584, 0.0379, 0.006],
                [0.0607, 0.2523, 0.1546, 0.2142, 0.1389, 0.0217],
                [0.0877, 0.3256, 0.3958, 0.4315, 0.2323, 0.027],
                [0.1819, 0.4023, 0.3999, 0.4239, 0.3026, 0.0653],
                [0.1741, 0.545, 0.4063, 0.2998, 0.3614, 0.108],
                [0.0333, 0.1793, 0.1893, 0.2039, 0.2282, 0.0569],
            ],
        },
        "multi_scale": {
            "expression": "happiness",
            "confidence": 0.9996,
            "probabilities": {
                "neutral": 0.0002,
                "happiness": 0.9996,
                "surprise": 0.0002,
                "sadness": 0.0,
                "anger": 0.0,
                "disgust": 0.0,
                "fear": 0.0,
                "contempt": 0.0,
            },
            "score": 7.6734,
            "bias": 1.9898,
            "evidence": [
                [-0.0754, -0.0273, -0.0631, -0.0095, -0.0363, -0.0138, -0.0158, 0.0022, 0.0005, 0.002],
                [-0.0171, -0.0495, -0.0162, 0.0103, -0.005, 0.0044, -0.0123, 0.0352, 0.0178, 0.0142],
                [-0.0252, -0.0143, 0.0057, 0.0137, 0.018, 0.0062, 0.0073, 0.0322, 0.0193, 0.0133],
                [0.0093, -0.0153, 0.0421, 0.1477, 0.0804, 0.0527, 0.077, 0.0085, 0.0276, 0.0049],
                [-0.0669, 0.0143, 0.1037, 0.0535, 0.3889, 0.044, 0.0856, -0.051, 0.0074, -0.0019],
                [0.0151, 0.0649, 0.0824, 0.159, 0.2212, 0.2568, 0.2398, 0.0875, 0.0055, 0.0074],
                [0.0242, -0.0034, 0.1787, 0.1751, 0.2186, 0.0538, 0.3498, 0.0428, -0.041, -0.0096],
                [0.0027, 0.0649, 0.2252, 0.3877, 0.201, -0.018, 0.1267, 0.1853, 0.0003, 0.0008],
                [-0.0641, 0.0215, 0.0788, 0.1333, 0.4785, 0.1897, 0.2085, 0.0534, -0.0112, 0.0036],
                [-0.0012, -0.0021, 0.0361, 0.0948, 0.0866, 0.1366, 0.0728, 0.0126, -0.0039, 0.0196],
            ],
        },
        "patches": [
            {"name": "upper_left", "evidence": 1.431, "share": 0.1999, "attention": 0.5302},
            {"name": "upper_right", "evidence": 1.1679, "share": 0.1631, "attention": 0.5729},
            {"name": "lower_left", "evidence": 2.5114, "share": 0.3507, "attention": 0.6083},
            {"name": "lower_right", "evidence": 2.05, "share": 0.2863, "attention": 0.6351},
        ],
        "attention": [
            [0.5223, 0.5561, 0.5001, 0.5609, 0.6517, 0.4494],
            [0.5234, 0.6119, 0.5404, 0.6213, 0.72, 0.5088],
            [0.467, 0.5407, 0.5099, 0.5581, 0.6023, 0.4834],
            [0.6199, 0.7078, 0.6626, 0.6681, 0.6729, 0.5761],
            [0.6612, 0.6902, 0.5876, 0.6633, 0.7053, 0.6238],
            [0.5512, 0.5546, 0.4399, 0.5946, 0.6239, 0.5878],
        ],
        "overlays": None,
    }
)
_LOGITS = [0.411, 7.3838, 0.8525, -2.2667, -1.5759, -1.5983, -2.0104, -1.4074]


def _inference() -> dict[str, dict[str, BaseModel]]:
    """Return answers of the Open Inference Protocol, likewise."""
    weights = get("ferplus")
    side, count, version = weights.preprocessing.input_size, len(weights.classes), (weights.sha256 or "1")[:12]
    labels = {"labels": ",".join(weights.classes)}
    metadata = ModelMetadata(
        name=weights.id,
        versions=(version,),
        platform="openvino_bf16",
        inputs=(TensorMetadata(name=IMAGES, datatype="UINT8", shape=(-1, side, side, 3), parameters={}),),
        outputs=tuple(
            TensorMetadata(name=name, datatype="FP32", shape=(-1, count), parameters=labels) for name in OUTPUTS
        ),
    )
    values = {"probabilities": list(_SHARES.values()), "logits": _LOGITS}
    outputs = [ResponseOutput(name=name, datatype="FP32", shape=(1, count), data=values[name]) for name in OUTPUTS]
    answered = InferenceResponse(model_name=weights.id, model_version=version, outputs=outputs)
    server = ServerMetadata(name="manet", version=manet.__version__, extensions=("binary_tensor_data",))
    of_model: dict[str, dict[str, BaseModel]] = {
        "getInferenceModel": {"the default weights": metadata},
        "getInferenceModelReady": {"ready": ModelReady(name=weights.id, ready=True)},
        "infer": {"one face": answered},
    }
    return {
        "getInferenceServer": {"this server": server},
        "getInferenceServerLive": {"live": ServerLive(live=True)},
        "getInferenceServerReady": {"ready": ServerReady(ready=True)},
        **of_model,
        **{f"{operation}Version": shown for operation, shown in of_model.items()},
    }


def _prediction(*faces: Face) -> Prediction:
    return Prediction(model="ferplus", image=Image(width=512, height=512), faces_total=len(faces), faces=list(faces))


def answers() -> dict[str, dict[str, BaseModel]]:
    """Return answers by operation id, and then by what they show."""
    alone = _prediction(_FOUND)
    why = "openvino: the fastest on processors; bf16: the processor has it"
    engine = Engine(name="openvino", precision="bf16", device="cpu", reason=why)
    explained = ExplainedFace(**dict(_FOUND), explanation=_EXPLANATION)
    rows = [Row(prediction=alone, problem=None), Row(prediction=None, problem=_TEXT)]
    return {
        "predict": {
            "one face": alone,
            "no face": _prediction(),
            "the image taken as one face": _prediction(_WHOLE),
        },
        "predictBatch": {"a portrait and a text": Predictions(results=rows)},
        "explain": {
            "one face, overlays=false": ExplainedImage(
                model="ferplus", image=alone.image, faces_total=1, faces=[explained]
            )
        },
        **_inference(),
        "getModel": {"the default weights": Model.of(get("ferplus"), engine)},
        "getLiveness": {"live": Health(status="live")},
        "getReadiness": {"ready": Health(status="ready")},
    }
