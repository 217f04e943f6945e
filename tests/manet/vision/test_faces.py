"""Faces cut out: five points brought to their places, without aliasing, at any distance from the image's edge."""

import cmath
import json
import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from manet.vision.faces import Box, FaceCrop, Landmarks, Point, align, cut
from manet.vision.preprocess import Pixels
from manet.weights.registry import get

CROP = FaceCrop(Landmarks(Point(0.3, 0.4), Point(0.7, 0.4), Point(0.5, 0.6), Point(0.35, 0.8), Point(0.65, 0.8)))
SIDE = 64


def _points(landmarks: Landmarks) -> list[Point]:
    return [
        landmarks.left_eye,
        landmarks.right_eye,
        landmarks.nose,
        landmarks.left_mouth,
        landmarks.right_mouth,
    ]


def _placed(turn: complex, origin: complex) -> Landmarks:
    """Return the crop's points where a similarity puts them, in pixels."""
    places = [turn * complex(point.x, point.y) + origin for point in _points(CROP.template)]
    return Landmarks(*(Point(place.real, place.imag) for place in places))


def _dots(landmarks: Landmarks, side: int, radius: float) -> Pixels:
    """Return a black square image with a white disc on each of the five points."""
    y, x = np.mgrid[:side, :side] + 0.5
    image = np.zeros((side, side, 3), np.uint8)
    for point in _points(landmarks):
        image[(x - point.x) ** 2 + (y - point.y) ** 2 <= radius**2] = 255
    return image


def _centroid(crop: Pixels, around: Point) -> tuple[float, float]:
    """Return the middle of what is bright within 5 pixels of a place, in fractions of the side."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    light = crop[..., 0] * ((x - around.x * SIDE) ** 2 + (y - around.y * SIDE) ** 2 < 25)
    assert light.sum() > 0
    return (light * x).sum() / light.sum() / SIDE, (light * y).sum() / light.sum() / SIDE


@pytest.mark.parametrize("degrees", [0, 25, 90, 180, -140])
@pytest.mark.parametrize("extent", [40.0, 100.0, 300.0])
def test_the_points_come_to_lie_where_the_crop_wants_them(degrees: float, extent: float) -> None:
    turn = cmath.rect(extent, math.radians(degrees))
    landmarks = _placed(turn, complex(256, 256) - turn * complex(0.5, 0.5))

    crop = align(_dots(landmarks, 512, extent / 30), landmarks, CROP, SIDE)

    assert (crop.shape, str(crop.dtype)) == ((SIDE, SIDE, 3), "uint8")
    for point in _points(CROP.template):
        assert _centroid(crop, point) == pytest.approx((point.x, point.y), abs=0.012)


def test_points_that_fit_no_similarity_are_met_halfway() -> None:
    exact = _placed(complex(100, 0), complex(50, 50))
    pulled = Landmarks(exact.left_eye, exact.right_eye, Point(exact.nose.x + 10, exact.nose.y), *_points(exact)[3:])
    all_pulled = _placed(complex(100, 0), complex(60, 50))
    image = skimage.data.astronaut()
    unmoved, moved, far = (align(image, at, CROP, SIDE).astype(int) for at in (exact, pulled, all_pulled))

    assert 0 < np.abs(moved - unmoved).mean() < np.abs(far - unmoved).mean()


def test_shrinking_averages_instead_of_picking() -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255

    crop = align(stripes, _placed(complex(900, 0), complex(60, 60)), CROP, SIDE)

    assert np.abs(crop.astype(int) - 127).max() <= 8


def test_a_turned_image_gives_the_same_crop() -> None:
    image = skimage.data.astronaut()
    landmarks = _placed(complex(150, 20), complex(150, 50))
    side = image.shape[0]
    turned = Landmarks(*(Point(side - point.y, point.x) for point in _points(landmarks)))

    first = align(image, landmarks, CROP, SIDE).astype(int)
    second = align(np.ascontiguousarray(np.rot90(image, -1)), turned, CROP, SIDE).astype(int)

    assert np.abs(first - second).mean() < 1.5


def test_beyond_the_edge_the_edge_goes_on() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :20] = (200, 0, 0)
    image[:, 20:] = (0, 0, 200)

    crop = align(image, _placed(complex(400, 0), complex(-180, -180)), CROP, SIDE)

    assert crop[SIDE // 2, 0].tolist() == [200, 0, 0]
    assert crop[0, -1].tolist() == [0, 0, 200]


@pytest.mark.parametrize("origin", [complex(5000, 5000), complex(-5000, 20), complex(1e7, -1e7)])
def test_a_face_outside_the_image_shows_its_nearest_edge(origin: complex) -> None:
    image = np.full((30, 50, 3), 77, np.uint8)

    assert (align(image, _placed(complex(100, 0), origin), CROP, SIDE) == 77).all()


def test_points_that_coincide_show_the_pixel_they_lie_on() -> None:
    image = np.zeros((30, 30, 3), np.uint8)
    image[10, 20] = 90

    assert (align(image, Landmarks(*[Point(20.5, 10.5)] * 5), CROP, SIDE) == 90).all()


def test_cut_is_the_square_around_the_box() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[20:60, 30:70] = 250

    crop = cut(image, Box(40, 20, 20, 40), 40)

    assert (crop[1:-1, 1:-1] == 250).all()
    assert crop.min() > 150  # the outermost samples lean on their neighbours outside
    assert (cut(image, Box(30, 30, 40, 20), 40) == crop).all()


def test_the_shipped_crop_is_the_one_that_was_measured() -> None:
    measured = json.loads((Path(__file__).parents[3] / "bench/results/face_template.json").read_text())
    crop = get("ferplus").crop
    assert crop is not None
    for name, place in measured["mean"].items():
        point = getattr(crop.template, name)
        assert (point.x, point.y) == pytest.approx(place, abs=1e-4)
