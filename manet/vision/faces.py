"""Faces: where they lie in an image, what finds them, and the upright crop of one.

All coordinates are pixels of the upright image, x to the right and y down from the upper left corner; the
first pixel covers 0..1.
"""

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from manet.vision.preprocess import Pixels

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Point:
    """A place in an image (pixels) or in a crop (fractions of its side)."""

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
    """The five points of a face; "left" and "right" are the image's, with the face upright in it, not the person's."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face that a detector found.

    Attributes:
        box: around the face, clipped to the image.
        confidence: the detector's score, 0..1.
        landmarks: the five points; they may lie outside an image that cuts the face.
    """

    box: Box
    confidence: float
    landmarks: Landmarks

    def placed(self, *, scale: Point, offset: Point) -> "DetectedFace":
        """Return the face as it lies in another image: scaled about the upper left corner, then shifted."""

        def at(x: float, y: float) -> Point:
            return Point(x * scale.x + offset.x, y * scale.y + offset.y)

        box, points = self.box, (getattr(self.landmarks, field.name) for field in fields(Landmarks))
        corner = at(box.x, box.y)
        return DetectedFace(
            Box(corner.x, corner.y, box.width * scale.x, box.height * scale.y),
            self.confidence,
            Landmarks(*(at(point.x, point.y) for point in points)),
        )


class FaceDetector(Protocol):
    """Anything that finds faces. It may be called from several threads at once."""

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        """Return the faces of an image, the largest box first; an empty list when there is none.

        Args:
            image: RGB, uint8 (height, width, 3), upright.
            small_faces: whether to search for small faces, too, which takes longer.
        """


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """How a face is cut out: where its five points come to lie.

    Attributes:
        template: the points as fractions of the crop's side, 0..1 from its upper left corner.
    """

    template: Landmarks


def align(image: Pixels, landmarks: Landmarks, crop: FaceCrop, side: int) -> Pixels:
    """Return a face cut out upright, turned, shifted and scaled so that its points lie where the crop wants them.

    Args:
        image: RGB, uint8 (height, width, 3).
        landmarks: the five points in it.
        crop: where they are wanted.
        side: of the result, in pixels.

    Returns:
        uint8 (side, side, 3), antialiased. What lies outside the image repeats its nearest edge.

    Source: the least-squares similarity of Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two
    Point Patterns", IEEE TPAMI 1991, which in two dimensions is a linear fit of complex numbers.
    """
    wanted, found = side * _complex(crop.template), _complex(landmarks)
    around, spread = found - found.mean(), wanted - wanted.mean()
    turn = complex(np.vdot(spread, around) / np.vdot(spread, spread).real)
    return _sample(image, turn, complex(found.mean()) - turn * complex(wanted.mean()), side)


def cut(image: Pixels, box: Box, side: int) -> Pixels:
    """Return the square around a box's middle, as wide as its longer side, as uint8 (side, side, 3).

    Antialiased; what lies outside the image repeats its nearest edge.
    """
    extent = max(box.width, box.height)
    corner = complex(box.x + (box.width - extent) / 2, box.y + (box.height - extent) / 2)
    return _sample(image, complex(extent / side), corner, side)


def _complex(points: Landmarks) -> npt.NDArray[np.complex128]:
    """Return the five points as x + iy, (5,)."""
    five = (points.left_eye, points.right_eye, points.nose, points.left_mouth, points.right_mouth)
    return np.array([complex(point.x, point.y) for point in five])


_SUPERSAMPLING = 2
"""Samples a side of each crop pixel; the image is reduced first until a sample spans at most one of its pixels."""


def _sample(image: Pixels, turn: complex, origin: complex, side: int) -> Pixels:
    """Return the square whose point z, in crop pixels, shows the image's point ``turn * z + origin``."""
    height, width = image.shape[:2]
    corners = turn * np.array([0, side, side * 1j, side * (1 + 1j)]) + origin
    left, right = np.clip([corners.real.min() - 1, corners.real.max() + 2], 0, width).astype(int)
    top, bottom = np.clip([corners.imag.min() - 1, corners.imag.max() + 2], 0, height).astype(int)
    left, top = min(left, width - 1), min(top, height - 1)  # at least one pixel, wherever the square lies
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    reduction = max(1, int(abs(turn)))
    if reduction > 1:
        part = np.asarray(Image.fromarray(part).reduce(reduction))
    # Real and imaginary parts apart, in single precision, and colour planes: this runs for every face.
    steps = ((np.arange(side * _SUPERSAMPLING) + 0.5) / _SUPERSAMPLING).astype(np.float32)
    step, corner = turn / reduction, (origin - complex(left, top)) / reduction - complex(0.5, 0.5)
    x = step.real * steps[None, :] + (corner.real - step.imag * steps[:, None])  # (count, count)
    y = step.imag * steps[None, :] + (corner.imag + step.real * steps[:, None])
    samples = _bilinear(part, x, y)  # (3, count, count)
    parts = [samples[:, i::_SUPERSAMPLING, j::_SUPERSAMPLING] for i, j in np.ndindex(_SUPERSAMPLING, _SUPERSAMPLING)]
    total: Floats = np.add.reduce(parts)  # (3, side, side)
    planes = (total / _SUPERSAMPLING**2 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _bilinear(image: Pixels, x: Floats, y: Floats) -> Floats:
    """Return the image's values between its pixels' centres, (3, ...); outside, those of the nearest edge."""
    height, width = image.shape[:2]
    planes = image.transpose(2, 0, 1).reshape(3, -1).astype(np.float32)
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    left, top = x.astype(np.intp), y.astype(np.intp)
    across, along = (x - left).astype(np.float32), (y - top).astype(np.float32)
    place = top * width + left
    right, down = left < width - 1, (top < height - 1) * width  # steps to the neighbours; none beyond the edge
    beside, below, opposite = place + right, place + down, place + right + down

    def blended(plane: Floats) -> Floats:
        upper: Floats = plane.take(place)
        lower = plane.take(below)
        upper += across * (plane.take(beside) - upper)
        lower += across * (plane.take(opposite) - lower)
        upper += along * (lower - upper)
        return upper

    return np.stack([blended(plane) for plane in planes])
