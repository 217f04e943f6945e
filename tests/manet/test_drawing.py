"""Boxes and names drawn into an image."""

from types import MappingProxyType

import numpy as np
import pytest

from manet.drawing import draw_faces
from manet.labels import Expression
from manet.recognizer import RecognizedFace
from manet.vision.faces import Box, DetectedFace, Landmarks, Point

HAPPY = MappingProxyType({Expression.HAPPINESS: 0.9, Expression.ANGER: 0.1})


def _face(box: Box | None) -> RecognizedFace:
    found = None if box is None else DetectedFace(box, 0.9, Landmarks(*[Point(0, 0)] * 5))
    return RecognizedFace(found, HAPPY)


@pytest.mark.parametrize("box", [Box(50, 60, 80, 90), Box(0, 0, 40, 40), Box(150, 0, 50, 199)])
def test_a_box_is_drawn_on_its_edges_and_the_rest_stays(box: Box) -> None:
    image = np.zeros((200, 200, 3), np.uint8)

    drawn = np.asarray(draw_faces(image, [_face(box)]))

    assert drawn.shape == image.shape
    assert not image.any(), "the image itself was drawn into"
    assert drawn[int(box.y + box.height / 2), int(box.x)].any()
    assert not drawn[int(box.y + box.height * 0.9), int(box.x + box.width / 2)].any()


def test_without_a_box_the_image_has_the_edge() -> None:
    drawn = np.asarray(draw_faces(np.zeros((200, 200, 3), np.uint8), [_face(None)]))

    assert drawn[150, 0].any()
    assert drawn[199, 100].any()
    assert not drawn[150, 100].any()


def test_an_image_of_one_pixel_can_be_drawn_into() -> None:
    assert draw_faces(np.zeros((1, 1, 3), np.uint8), [_face(Box(0, 0, 1, 1))]).size == (1, 1)
