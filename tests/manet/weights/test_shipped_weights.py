"""The weights that ship: what the registry says of them is what their file and its measurement say."""

import json
from pathlib import Path

import pytest
import skimage.data

from manet.labels import Expression
from manet.recognizer import RecognizedFace, Recognizer
from manet.vision.images import ImageLimits, read_image
from manet.weights.header import read_header
from manet.weights.registry import get, locate

ROOT = Path(__file__).parents[3]
PHOTOS = ROOT.parent / "shared/data/photos"


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.from_weights("ferplus")


def test_the_file_agrees_with_the_registry() -> None:
    weights = get("ferplus")
    header = read_header(locate(weights))

    assert header is not None
    assert header.use is not None
    assert (header.classes, header.wiring) == (weights.classes, weights.wiring)
    assert header.use.preprocessing == weights.preprocessing
    assert header.use.fusion_weight == weights.fusion_weight
    assert header.use.temperature == weights.temperature
    assert header.use.crop == weights.crop


def test_the_figures_are_those_that_were_measured_from_this_very_file() -> None:
    weights = get("ferplus")
    [figures] = weights.measured
    found = json.loads((ROOT / figures.source).read_text())

    assert found["weights"]["sha256"] == weights.sha256
    assert (found["dataset"], found["split"], found["n"]) == (figures.dataset, figures.split, figures.n)
    assert found["accuracy"] == pytest.approx(figures.accuracy, abs=0.005)
    assert found["macro_recall"] == pytest.approx(figures.macro_recall, abs=0.005)
    assert figures.per_class is not None
    for name, recall in zip(weights.classes, figures.per_class, strict=True):
        assert found["per_class"][name]["recall"] == pytest.approx(recall, abs=0.05)
    assert found["temperature"] == weights.temperature


def test_the_model_card_shows_these_figures() -> None:
    card = (ROOT / "manet/weights/assets/MODEL_CARD.md").read_text()
    weights = get("ferplus")
    [figures] = weights.measured
    found = json.loads((ROOT / figures.source).read_text())

    for name in weights.classes:
        row = found["per_class"][name]
        assert f"| {name} | {row['recall']:.1f} | {row['n']:,} |" in card
    assert f"accuracy {figures.accuracy:.2f} %" in card
    assert f"macro recall {figures.macro_recall:.2f} %" in card
    assert f"{figures.n:,} images" in card
    assert str(weights.sha256) in card


def test_a_portrait_smiles(recognizer: Recognizer) -> None:
    [face] = recognizer.recognize(skimage.data.astronaut())

    assert face.expression == Expression.HAPPINESS
    assert face.confidence > 0.5


def _faces(recognizer: Recognizer, name: str) -> list[RecognizedFace]:
    return recognizer.recognize(read_image((PHOTOS / name).read_bytes(), limits=ImageLimits()))


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the four photographs are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "expressions"),
    [
        ("neutral.jpeg", {Expression.NEUTRAL}),
        ("happy-baby.jpeg", {Expression.HAPPINESS}),
        ("angry.jpg", {Expression.ANGER, Expression.DISGUST}),
    ],
)
def test_photographs_show_what_people_see_in_them(
    recognizer: Recognizer, name: str, expressions: set[Expression]
) -> None:
    [face] = _faces(recognizer, name)

    assert face.expression in expressions
