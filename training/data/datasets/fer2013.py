"""FER2013: grey images of 48 x 48 px in one CSV (Goodfellow et al., ICONIP 2013)."""

from pathlib import Path
from types import MappingProxyType

import numpy as np

from manet.labels import CLASS_ORDERS, Expression
from manet.vision.preprocess import Pixels
from training.data.datasets.expression_set import (
    DatasetError,
    ExpressionSet,
    LabelKind,
    Split,
    count_remark,
    demand,
    one_hot,
)
from training.data.datasets.layout import need_root, rows

CLASSES = CLASS_ORDERS["fer2013"]
TABLE = "fer2013.csv"
SAME_TABLE = "icml_face_data.csv"
"""The name that the same rows have in the archive of the challenge."""
SIDE = 48
USAGES = MappingProxyType({"train": "Training", "valid": "PublicTest", "test": "PrivateTest"})
EXPECTED = MappingProxyType({"train": 28_709, "valid": 3_589, "test": 3_589})
OWNERS_NUMBERS = MappingProxyType(
    {
        "0": Expression.ANGER,
        "1": Expression.DISGUST,
        "2": Expression.FEAR,
        "3": Expression.HAPPINESS,
        "4": Expression.SADNESS,
        "5": Expression.SURPRISE,
        "6": Expression.NEUTRAL,
    }
)


def load(data: Path, split: Split, labels: LabelKind = "majority") -> ExpressionSet:
    """Return one split; every image has one label, so ``labels`` changes nothing.

    Raises:
        DatasetError: if there is neither ``fer2013.csv`` nor ``icml_face_data.csv``, or a row of it is not what it
            should be.
    """
    root, mark = need_root(data, "FER2013", TABLE, SAME_TABLE)
    table = root / mark
    names: list[Expression] = []
    images: list[Pixels] = []
    paths: list[Path] = []
    for number, row in enumerate(rows(table, ("emotion", "pixels", "Usage")), start=2):
        if row["Usage"] == USAGES[split]:
            if row["emotion"] not in OWNERS_NUMBERS:
                raise DatasetError(f"{table}, line {number}: expected an emotion 0 to 6, found {row['emotion']!r}")
            names.append(OWNERS_NUMBERS[row["emotion"]])
            images.append(image(row["pixels"], f"{table}, line {number}"))
            paths.append(table / f"{number:05}")
    if not paths:
        demand(paths, table)
    return ExpressionSet(
        "fer2013",
        split,
        "the owners' single labels",
        CLASSES,
        tuple(paths),
        one_hot(names, CLASSES),
        count_remark("fer2013", split, names, EXPECTED[split]),
        pixels=np.stack(images),
    )


def table_in(root: Path) -> Path:
    """Return where the table lies in a folder, under either name; under the first where there is none."""
    other = root / SAME_TABLE
    return other if other.is_file() and not (root / TABLE).is_file() else root / TABLE


def image(text: str, where: str) -> Pixels:
    """Return the image of a row, uint8 (48, 48).

    Args:
        text: 2,304 numbers 0..255 with blanks between.
        where: the row, for the error.

    Raises:
        DatasetError: if the text is something else.
    """
    try:
        values = np.array(text.split(), dtype=np.uint8)
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{where}: {error}") from error
    if values.size != SIDE * SIDE:
        raise DatasetError(f"{where}: expected {SIDE * SIDE} pixels, found {values.size}")
    return values.reshape(SIDE, SIDE)
