"""Scores, on numbers small enough to count by hand."""

from pathlib import Path

import numpy as np
import pytest

from manet.backends.base import Logits
from manet.labels import CLASS_ORDERS
from manet.vision.preprocess import Pixels, Preprocessing
from training.data.datasets import ferplus
from training.data.datasets.expression_set import ExpressionSet
from training.data.transforms import epoch_order
from training.eval import evaluate


def _labelled(labels: list[int]) -> ExpressionSet:
    classes = CLASS_ORDERS["ferplus"]
    targets = np.eye(len(classes), dtype=np.float32)[labels]
    return ExpressionSet("ferplus", "valid", "by hand", classes, tuple(Path(str(i)) for i in labels), targets)


def test_rates_and_confusion() -> None:
    data = _labelled([0, 0, 0, 1, 1, 2])
    logits = 50 * np.eye(8, dtype=np.float32)[[0, 0, 1, 1, 1, 0]]

    found = evaluate.score(data, logits)

    assert found.n == 6
    assert found.accuracy == pytest.approx(100 * 4 / 6)
    assert found.macro_recall == pytest.approx(100 * (2 / 3 + 1 + 0) / 3)
    assert found.per_class["neutral"] == {"recall": pytest.approx(66.667), "n": 3}
    assert found.per_class["contempt"]["n"] == 0
    assert found.confusion[:3, :3].tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert found.cross_entropy == pytest.approx(50 * 2 / 6)


def test_predictions_keep_the_order_of_the_images(ferplus_tree: Path) -> None:
    data = ferplus.load(ferplus_tree, "valid", "majority")

    def brightness(images: Pixels) -> Logits:
        assert images.dtype == np.uint8
        means: Logits = images.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]
        return means

    spec = Preprocessing(input_size=64, colour="grey")
    found = evaluate.predict(data, spec, brightness, batch_size=4)

    assert found[:, 0] == pytest.approx([data.read(i).mean() for i in range(len(data))], abs=1.5)


def test_an_epoch_visits_each_image_once_in_its_own_order() -> None:
    labels = np.arange(100) % 3
    first, second = epoch_order(labels, 1, 0), epoch_order(labels, 1, 1)

    assert sorted(first) == list(range(100))
    assert first != second
    assert first == epoch_order(labels, 1, 0)


@pytest.mark.parametrize(("balance", "rare"), [(0.0, 100.0), (0.5, 10_000 * 10 / (99.499 + 10)), (1.0, 5000.0)])
def test_class_balance_draws_rare_classes_more_often(balance: float, rare: float) -> None:
    labels = np.repeat([0, 1], [9900, 100])

    drawn = np.bincount(labels[epoch_order(labels, 1, 0, class_balance=balance)], minlength=2)

    # Shares go as the count to the power of 1 - balance: 99.5 to 10 at one half; four standard deviations of slack.
    slack = 4 * (rare * (1 - rare / 10_000)) ** 0.5 if balance else 0
    assert drawn.sum() == 10_000
    assert drawn[1] == pytest.approx(rare, abs=slack)
