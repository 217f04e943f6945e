"""Faces: where they lie in a picture, what finds them, and the upright crop of one.

All coordinates are pixels of the upright picture, x to the right and y down from the upper left corner; the
first pixel covers 0..1.
"""

from dataclasses import dataclass
from typing import Protocol

from manet.preprocess import Pixels


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a picture (pixels) or in a crop (fractions of its side)."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle: its upper left corner and its extent."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Landmarks:
    """The five points of a face; "left" and "right" are the picture's, not the person's."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face that a detector found.

    Attributes:
        box: around the face, clipped to the picture.
        confidence: the detector's score, 0..1.
        landmarks: the five points; they may lie outside a picture that cuts the face.
    """

    box: Box
    confidence: float
    landmarks: Landmarks


class FaceDetector(Protocol):
    """Anything that finds faces. It may be called from several threads at once."""

    def detect(self, image: Pixels) -> list[DetectedFace]:
        """Return the faces of a picture, the largest box first; an empty list when there is none."""


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """How a face is cut out: where its five points come to lie.

    Attributes:
        template: the points as fractions of the crop's side, 0..1 from its upper left corner.
    """

    template: Landmarks
