"""Recognizer: an image in, its faces and their apparent expressions out; one process, no HTTP.

Its three steps can also be taken apart, as the service does: ``find`` before the batch, ``classify`` the batch itself,
``read`` after it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt

from manet.backends.base import Backend, BackendName, Device, Logits, PrecisionName
from manet.backends.factory import load_backend
from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.labels import Expression
from manet.vision.faces import Box, DetectedFace, FaceDetector, Landmarks, Point, align, cut
from manet.vision.images import ScaledImage
from manet.vision.preprocess import Pixels, network_input
from manet.vision.retinaface import RetinaFaceDetector
from manet.weights.entry import Weights
from manet.weights.registry import resolve

FaceMode = Literal["detect", "small", "whole"]
"""``detect`` looks for faces in the image; ``small`` does so in its parts, too, in five times the time, and finds those
down to 1/70 of its longest side; ``whole`` takes the image as the crop of one."""

MAX_FACES = 32
"""Faces answered in one image where the caller names no other number: the largest ones."""

BATCH = 32
"""Faces that the network is given at once, at most."""


Face = TypeVar("Face")


@dataclass(frozen=True, slots=True)
class ImageFaces(Generic[Face]):
    """The faces of one image: where they were found, as network input, answered, or explained.

    Attributes:
        width: of the upright image, in pixels; ``height`` likewise.
        height: see ``width``.
        faces: the largest first, and no more of them than were requested.
        faces_total: how many faces were found, at least as many as ``faces`` has.
    """

    width: int
    height: int
    faces: list[Face]
    faces_total: int


@dataclass(frozen=True, slots=True)
class FaceInput:
    """A face on its way to the network.

    Attributes:
        face: where it was found; None where the image was taken as a whole.
        pixels: the network's input, uint8 (S, S, 3).
    """

    face: DetectedFace | None
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class RecognizedFace:
    """A face and its apparent expression.

    Attributes:
        face: where it was found; None where the image was taken as a whole.
        probabilities: of each class of the weights, in their order, summing to 1.
    """

    face: DetectedFace | None
    probabilities: Mapping[Expression, float]

    @property
    def expression(self) -> Expression:
        """The most probable expression."""
        return max(self.probabilities, key=lambda expression: self.probabilities[expression])

    @property
    def confidence(self) -> float:
        """Its probability, 0..1."""
        return self.probabilities[self.expression]

    def record(self) -> dict[str, Any]:
        """Return the face as plain values, which is how every answer in JSON has it; rows of tables are made of it."""
        where, expression = self.face, self.expression
        return {
            "box": where and {side: getattr(where.box, side) for side in _BOX},
            "detection_confidence": where and where.confidence,
            "landmarks": where and {name: _point(getattr(where.landmarks, name)) for name in _LANDMARKS},
            "expression": expression,
            "confidence": self.probabilities[expression],
            "probabilities": dict(self.probabilities),
        }


# By name, since a deep copy of the nested dataclasses takes five times as long.
_BOX, _LANDMARKS = (tuple(field.name for field in fields(kind)) for kind in (Box, Landmarks))


def _point(point: Point) -> dict[str, float]:
    return {"x": point.x, "y": point.y}


class Recognizer:
    """Finds faces and reads their expressions.

    Args:
        weights: what the backend has loaded, as this machine has them installed.
        backend: the network.
        detector: finds the faces.
    """

    def __init__(self, weights: Weights, backend: Backend, detector: FaceDetector) -> None:
        self.weights = weights
        self.backend = backend
        self._detector = detector

    @property
    def detector(self) -> FaceDetector:
        """What finds the faces."""
        return self._detector

    @classmethod
    def from_weights(
        cls,
        name: str = "ferplus",
        *,
        backend: BackendName = "auto",
        precision: PrecisionName = "auto",
        device: Device = "auto",
        threads: int | None = None,
        store: Path | None = None,
    ) -> Self:
        """Return a recognizer with the shipped detector and the weights of that name.

        Args:
            name: one of ``manet.weights.registry.names()``, or the path of a ``.safetensors`` file that
                ``manet-train`` wrote.
            backend: what runs the network; ``auto`` here and below takes what suits the machine.
            precision: the number format that it runs in.
            device: where it runs.
            threads: CPU threads of the network; None means as many as the process may use.
            store: folder of weights that the user imported; None means the default one.

        Raises:
            UnknownWeightsError: if there are no weights of that name.
            WeightsNotInstalledError: if their file is not on this machine.
            CheckpointError: if the file is not what the registry says.
            ValueError: if what is requested is not to be had, or ``threads`` is below one.
        """
        weights = resolve(name, store)
        loaded = load_backend(
            weights, backend=backend, precision=precision, device=device, threads=threads, store=store
        )
        return cls(weights, loaded, RetinaFaceDetector(OpenVinoFaceNetwork()))

    def find(
        self, image: Pixels | ScaledImage, *, faces: FaceMode = "detect", max_faces: int = MAX_FACES
    ) -> ImageFaces[FaceInput]:
        """Return the image's faces as network input, the largest first; safe to call from several threads.

        Of an image that was reduced, the whole is read only for faces that have fewer pixels than the network's input.

        Args:
            image: RGB, uint8 (height, width, 3), upright; or what ``read_scaled`` returned.
            faces: how to look for faces, or to take the image as one; see ``FaceMode``.
            max_faces: the most faces to return, at least 1.

        Raises:
            ImageError: if the whole of an image that was reduced cannot be read.
        """
        spec = self.weights.preprocessing
        scaled = image if isinstance(image, ScaledImage) else ScaledImage.of(image)
        if faces == "whole":
            inputs = [FaceInput(None, network_input(scaled.pixels, spec))]
            return ImageFaces(scaled.width, scaled.height, inputs, 1)
        found = self._detector.detect(scaled.pixels, small_faces=faces == "small")
        kept = found[:max_faces]
        height, width = scaled.pixels.shape[:2]
        scale = Point(scaled.width / width, scaled.height / height)
        largest = [face.placed(scale=scale, offset=Point(0, 0)) for face in kept]
        if scaled.reduced and any(max(face.box.width, face.box.height) < spec.input_size for face in kept):
            pixels, cut_out = scaled.whole(), largest
        else:
            pixels, cut_out = scaled.pixels, kept
        inputs = [
            FaceInput(face, network_input(self._crop(pixels, place), spec))
            for face, place in zip(largest, cut_out, strict=True)
        ]
        return ImageFaces(scaled.width, scaled.height, inputs, len(found))

    def classify(self, pixels: Pixels) -> Logits:
        """Return the fused logits, float32 (N, classes), of a batch of network inputs, uint8 (N, S, S, 3)."""
        return self.backend.infer(pixels)

    def read(self, face: FaceInput, logits: npt.NDArray[np.float32]) -> RecognizedFace:
        """Return what the fused logits of one face, (classes,), say: calibrated probabilities by name."""
        # For so few numbers plain floats take a fifth of NumPy's time.
        scaled = [value / self.weights.temperature for value in logits.tolist()]
        largest = max(scaled)
        odds = [math.exp(value - largest) for value in scaled]
        whole = sum(odds)
        named = {name: share / whole for name, share in zip(self.weights.classes, odds, strict=True)}
        return RecognizedFace(face.face, MappingProxyType(named))

    def recognize(
        self, image: Pixels | ScaledImage, *, faces: FaceMode = "detect", max_faces: int = MAX_FACES
    ) -> list[RecognizedFace]:
        """Return the image's faces with their apparent expressions, the largest face first.

        Args:
            image: RGB, uint8 (height, width, 3), upright.
            faces: how to look for faces, or to take the image as one; see ``FaceMode``.
            max_faces: the most faces to return, at least 1.
        """
        return self.read_all(self.find(image, faces=faces, max_faces=max_faces).faces)

    def read_all(self, faces: Sequence[FaceInput]) -> list[RecognizedFace]:
        """Return what the network says of each face, in batches of at most ``BATCH``."""
        batches = (faces[start : start + BATCH] for start in range(0, len(faces), BATCH))
        return [
            self.read(face, logits)
            for batch in batches
            for face, logits in zip(batch, self.classify(np.stack([face.pixels for face in batch])), strict=True)
        ]

    def _crop(self, image: Pixels, face: DetectedFace) -> Pixels:
        side = self.weights.preprocessing.input_size
        if self.weights.crop is None:
            return cut(image, face.box, side)
        return align(image, face.landmarks, self.weights.crop, side)
