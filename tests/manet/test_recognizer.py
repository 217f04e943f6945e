"""Recognizer: the way from an image to named probabilities, on a detector and a network that tests can predict."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pytest
import skimage.data
from PIL import Image

from manet.backends.base import Logits
from manet.labels import Expression
from manet.recognizer import FaceInput, Recognizer
from manet.vision.faces import Box, DetectedFace, Landmarks, Point
from manet.vision.images import ImageLimits, ScaledImage, read_image, read_scaled
from manet.vision.preprocess import Pixels, Preprocessing
from manet.weights.entry import Weights
from manet.weights.registry import get
from testing.fakes import encode

SIDE = 32
WEIGHTS = replace(get("ferplus"), preprocessing=Preprocessing(input_size=SIDE, colour="rgb"), temperature=2.0)


class Brightness:
    """A network that answers with the mean of each image's channels, and keeps what it was given."""

    name, precision, device, reason = "brightness", "float64", "nowhere", "requested"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def warmup(self, batch_sizes: Sequence[int]) -> NoReturn:
        raise AssertionError("no one requested this")

    def infer(self, images: Pixels) -> Logits:
        assert images.dtype == np.uint8
        assert images.shape[1:] == (SIDE, SIDE, 3)
        self.batches.append(len(images))
        logits = np.zeros((len(images), 8), np.float32)
        logits[:, :3] = images.mean(axis=(1, 2)) / 64
        return logits

    def close(self) -> None:
        raise AssertionError("no one requested this")


class Squares:
    """A detector that reports the squares it was made with."""

    def __init__(self, *corners: tuple[float, float, float]) -> None:
        self._faces = [_face(*corner) for corner in corners]

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        return list(self._faces)


def _face(x: float, y: float, side: float) -> DetectedFace:
    """Return a face that fills a square exactly as the weights' crop wants it."""
    assert WEIGHTS.crop is not None
    template = WEIGHTS.crop.template
    points = (template.left_eye, template.right_eye, template.nose, template.left_mouth, template.right_mouth)
    return DetectedFace(Box(x, y, side, side), 0.9, Landmarks(*(Point(x + side * p.x, y + side * p.y) for p in points)))


def _image() -> Pixels:
    """Return an image of 100 x 200 that is red on the left and green on the right."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :100, 0] = 255
    image[:, 100:, 1] = 255
    return image


def test_each_face_is_cut_out_classified_and_named() -> None:
    network = Brightness()
    faces = Recognizer(WEIGHTS, network, Squares((10, 10, 80), (110, 20, 60))).recognize(_image())

    assert network.batches == [2]
    red, green = WEIGHTS.classes[:2]
    assert [face.expression for face in faces] == [red, green]
    assert [face.face.box.x for face in faces if face.face] == [10, 110]
    for face in faces:
        assert tuple(face.probabilities) == WEIGHTS.classes
        assert sum(face.probabilities.values()) == pytest.approx(1)
        assert face.confidence == max(face.probabilities.values())


def test_temperature_divides_the_logits() -> None:
    recognizer = Recognizer(WEIGHTS, Brightness(), Squares())
    logits = np.array([4, 2, 0, 0, 0, 0, 0, -1000], np.float32)

    answer = recognizer.read(FaceInput(None, np.zeros((SIDE, SIDE, 3), np.uint8)), logits)

    ratio = answer.probabilities[WEIGHTS.classes[0]] / answer.probabilities[WEIGHTS.classes[1]]
    assert ratio == pytest.approx(np.exp((4 - 2) / 2.0))
    assert answer.probabilities[Expression.CONTEMPT] < 1e-100


def test_a_whole_image_is_one_face_without_a_place() -> None:
    [face] = Recognizer(WEIGHTS, Brightness(), Squares((0, 0, 50))).recognize(_image(), faces="whole")

    assert face.face is None
    first, second = (face.probabilities[name] for name in WEIGHTS.classes[:2])
    assert first == pytest.approx(second, rel=0.05)  # half red, half green


def test_no_face_is_no_answer_and_no_batch() -> None:
    network = Brightness()

    assert Recognizer(WEIGHTS, network, Squares()).recognize(_image()) == []
    assert network.batches == []


def test_only_the_first_faces_are_answered_when_there_are_more() -> None:
    faces = Recognizer(WEIGHTS, Brightness(), Squares((10, 10, 80), (110, 20, 60))).recognize(_image(), max_faces=1)

    assert [face.expression for face in faces] == [WEIGHTS.classes[0]]


def test_many_faces_go_in_batches_of_bounded_size() -> None:
    network = Brightness()
    faces = Recognizer(WEIGHTS, network, Squares(*[(10.0, 10.0, 80.0)] * 70)).recognize(_image(), max_faces=70)

    assert len(faces) == 70
    assert network.batches == [32, 32, 6]


def test_without_a_measured_crop_a_face_is_the_square_around_its_box() -> None:
    unmeasured: Weights = replace(WEIGHTS, crop=None)
    [face] = Recognizer(unmeasured, Brightness(), Squares((110, 20, 60))).recognize(_image())

    assert face.expression == WEIGHTS.classes[1]


@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 2])
def test_the_expression_of_a_face_that_is_upside_down_is_that_of_the_upright_one(scale: float) -> None:
    recognizer = Recognizer.from_weights("ferplus")
    side = round(512 * scale)
    portrait = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((side, side)))

    [upright] = recognizer.recognize(portrait)
    [turned] = recognizer.recognize(np.ascontiguousarray(portrait[::-1, ::-1]))

    assert turned.expression == upright.expression == Expression.HAPPINESS
    assert turned.confidence == pytest.approx(upright.confidence, abs=0.05)


@pytest.mark.parametrize(("side", "from_whole"), [(SIDE, False), (SIDE - 1, True)])
def test_faces_of_a_reduced_image_are_cut_from_the_whole_where_they_are_small(side: int, *, from_whole: bool) -> None:
    whole, asked = _image().repeat(2, axis=0).repeat(2, axis=1), []

    def read() -> Pixels:
        asked.append(True)
        return whole

    recognizer = Recognizer(WEIGHTS, Brightness(), Squares((10, 10, 60), (120, 20, side)))

    found = recognizer.find(ScaledImage(_image(), 400, 200, read))

    assert (found.width, found.height) == (400, 200)
    assert [face.face and face.face.box for face in found.faces] == [
        Box(20, 20, 120, 120),
        Box(240, 40, 2 * side, 2 * side),
    ]
    assert found.faces[1].face is not None
    assert found.faces[1].face.landmarks.nose.x == pytest.approx(2 * _face(120, 20, side).landmarks.nose.x)
    assert asked == [True] * from_whole
    assert [tuple(face.pixels[SIDE // 2, SIDE // 2]) for face in found.faces] == [(255, 0, 0), (0, 255, 0)]


def test_a_reduced_photograph_has_the_faces_and_the_answers_of_the_whole() -> None:
    recognizer = Recognizer.from_weights(precision="float32")
    portrait = Image.fromarray(skimage.data.astronaut())
    data = encode(portrait.resize((3000, 3000), Image.Resampling.BICUBIC), "JPEG", quality=90)
    scaled = read_scaled(data, limits=ImageLimits())

    [reduced] = recognizer.recognize(scaled)
    [exact] = recognizer.recognize(read_image(data, limits=ImageLimits()))

    assert scaled.reduced
    assert reduced.face is not None
    assert exact.face is not None
    for edge in ("x", "y", "width", "height"):
        assert getattr(reduced.face.box, edge) == pytest.approx(getattr(exact.face.box, edge), abs=15)
    assert reduced.expression == exact.expression
    assert reduced.confidence == pytest.approx(exact.confidence, abs=0.02)
