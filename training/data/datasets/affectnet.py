"""AffectNet: photographs from the web, labelled by one person each (Mollahosseini et al., IEEE TAC 2019).

Two layouts are read. As first shipped: ``training.csv`` and ``validation.csv`` with the face's box and the expression's
number, and whole photographs in ``Manually_Annotated_Images/``; the face is cropped by its box. As shipped later:
``{train,val}_set/images/ID.jpg`` and ``{train,val}_set/annotations/ID_exp.npy``, already cropped to faces. Numbers of
8 and more (none, uncertain, no face) are ignored; the seven-class set leaves out contempt, too.
"""

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from manet.labels import CLASS_ORDERS
from training.data.datasets.expression_set import (
    Area,
    DatasetError,
    ExpressionSet,
    LabelKind,
    Split,
    count_remark,
    no_such_split,
    one_hot,
    require_any,
)
from training.data.datasets.layout import require_root, rows

OWNERS_NUMBERS = CLASS_ORDERS["affectnet8"]
"""The owners number the classes as the authors of MA-Net do."""

CSV = "Manually_Annotated_Images"
NPY = "train_set/annotations"
COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression")
_COUNTS = MappingProxyType(
    {"train": (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750), "valid": (500,) * len(OWNERS_NUMBERS)}
)
EXPECTED = MappingProxyType(
    {split: dict(zip(OWNERS_NUMBERS, counts, strict=True)) for split, counts in _COUNTS.items()}
)
"""The owners' count of each class. The authors evaluated on one image fewer than they ship."""

Name = Literal["affectnet7", "affectnet8"]
Item = tuple[Path, str, Area | None]


def load(data: Path, split: Split, labels: LabelKind = "majority", *, name: Name) -> ExpressionSet:
    """Return one split; every image has one label, so ``labels`` changes nothing.

    Args:
        data: the folder of either layout.
        split: ``train`` or ``valid``.
        labels: see above.
        name: which set of classes.

    Raises:
        DatasetError: if the layout is neither of the two, a row is not valid, or an image is missing.
    """
    if split not in EXPECTED:
        raise no_such_split(name, split, ("train", "valid"))
    root, mark = require_root(data, "AffectNet", NPY, CSV)
    classes = CLASS_ORDERS[name]
    items = [item for item in (_from_npy if mark == NPY else _from_csv)(root, split) if item[1] in classes]
    paths, names = tuple(item[0] for item in items), [item[1] for item in items]
    require_any(paths, root)
    expected = {label: count for label, count in EXPECTED[split].items() if label in classes}
    return ExpressionSet(
        name,
        split,
        "the owners' single labels, " + ("faces as shipped" if mark == NPY else "faces cropped by the owners' boxes"),
        classes,
        paths,
        one_hot(names, classes),
        count_remark(name, split, names, expected),
        areas=None if mark == NPY else tuple(item[2] for item in items),
    )


load_7 = partial(load, name="affectnet7")
load_8 = partial(load, name="affectnet8")


def _from_csv(root: Path, split: Split) -> Iterator[Item]:
    table = root / ("training.csv" if split == "train" else "validation.csv")
    for number, row in enumerate(rows(table, COLUMNS), start=2):
        try:
            label = _number(row["expression"])
            if label >= len(OWNERS_NUMBERS):
                continue
            x, y, width, height = (round(float(row[f"face_{part}"])) for part in ("x", "y", "width", "height"))
        except (ValueError, OverflowError) as error:
            raise DatasetError(f"{table}, line {number}: {error}") from error
        yield root / CSV / row["subDirectory_filePath"], OWNERS_NUMBERS[label], (x, y, x + width, y + height)


def _number(label: str | npt.NDArray[Any]) -> int:
    """Return the owners' number of an expression.

    Raises:
        ValueError: if it is no whole number, or below 0, or an array of several.
        OverflowError: if it is infinite.
        TypeError: if it is no number at all.
    """
    value = label.item() if isinstance(label, np.ndarray) else label
    number = int(value)
    whole = isinstance(value, str | bytes) or (number == value and not isinstance(value, bool))
    if not whole or number < 0:
        raise ValueError(f"expected an expression of 0 or more, found {value}")
    return number


def _from_npy(root: Path, split: Split) -> Iterator[Item]:
    folder = root / ("train_set" if split == "train" else "val_set")
    for note in sorted((folder / "annotations").glob("[!.]*_exp.npy")):  # no hidden files
        try:
            with note.open("rb") as file:
                label = _number(np.load(file, allow_pickle=False))
        except (ValueError, OverflowError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{note} contains no label: {error}") from error
        if label < len(OWNERS_NUMBERS):
            yield folder / "images" / f"{note.name.removesuffix('_exp.npy')}.jpg", OWNERS_NUMBERS[label], None
