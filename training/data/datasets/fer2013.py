"""FER2013: grey images of 48 x 48 px in one CSV (Goodfellow et al., ICONIP 2013)."""

from collections.abc import Mapping
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
    one_hot,
    require_any,
)
from training.data.datasets.layout import require_root, rows

CLASSES = CLASS_ORDERS["fer2013"]
TABLE = "fer2013.csv"
SAME_TABLE = "icml_face_data.csv"
"""Name of the same table in the archive of the challenge."""
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
        DatasetError: if there is neither ``fer2013.csv`` nor ``icml_face_data.csv``, or a row of it is not
            valid.
    """
    root, mark = require_root(data, "FER2013", TABLE, SAME_TABLE)
    table = root / mark
    names: list[Expression] = []
    images: list[Pixels] = []
    paths: list[Path] = []
    for number, row in enumerate(rows(table, ("emotion", "pixels", "Usage")), start=2):
        if usage_of(row, f"{table}, line {number}") == USAGES[split]:
            if row["emotion"] not in OWNERS_NUMBERS:
                raise DatasetError(f"{table}, line {number}: expected an emotion 0 to 6, found {row['emotion']!r}")
            names.append(OWNERS_NUMBERS[row["emotion"]])
            images.append(image(row["pixels"], f"{table}, line {number}"))
            paths.append(table / f"{number:05}")
    if not paths:
        require_any(paths, table)
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
    """Return the path of the table in a folder, under either name; under the first if there is none."""
    other = root / SAME_TABLE
    return other if other.is_file() and not (root / TABLE).is_file() else root / TABLE


def usage_of(row: Mapping[str, str], where: str) -> str:
    """Return the Usage of a row, one of ``USAGES``.

    Args:
        row: of FER2013's or FER+'s table.
        where: the row, for the error message.

    Raises:
        DatasetError: if it is none of them.
    """
    train, valid, test = USAGES.values()
    if row["Usage"] not in {train, valid, test}:
        raise DatasetError(f"{where}: expected the Usage {train}, {valid} or {test}, found {row['Usage']!r}")
    return row["Usage"]


def image(text: str, where: str) -> Pixels:
    """Return the image of a row, uint8 (48, 48).

    Args:
        text: 2,304 numbers 0..255, separated by blanks.
        where: the row, for the error message.

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
