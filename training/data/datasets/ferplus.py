"""FER+: the FER2013 images with ten votes each (Barsoum et al., ICMI 2016).

Votes: ``fer2013new.csv`` with Usage, Image name and ten vote columns; rows without a name are not faces. Images, in
the same folder: either ``FER2013{Train,Valid,Test}/`` with one file for each name, or ``fer2013.csv`` (or
``icml_face_data.csv``) as FER2013's owners ship it, which has the same rows in the same order.
"""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manet.labels import CLASS_ORDERS
from manet.vision.preprocess import Pixels
from training.data.datasets import fer2013
from training.data.datasets.expression_set import DatasetError, ExpressionSet, LabelKind, Split, require_any
from training.data.datasets.layout import require_root, rows

CLASSES = CLASS_ORDERS["ferplus"]
VOTES = "fer2013new.csv"
VOTE_COLUMNS = (*(expression.value for expression in CLASSES), "unknown", "NF")
SPLITS = {
    "train": ("Training", "FER2013Train"),
    "valid": ("PublicTest", "FER2013Valid"),
    "test": ("PrivateTest", "FER2013Test"),
}
PROTOCOL = "majority of votes after dropping single votes"
EXPECTED = {"train": 25060, "valid": 3199, "test": 3153}
"""Number of images by the majority protocol, with duplicates."""


def load(data: Path, split: Split, labels: LabelKind = "majority") -> ExpressionSet:
    """Return one split.

    Single votes are set to zero. By the majority protocol an image is included if one of the eight classes has more
    than half of the rest: ``majority`` labels it with that class, ``distribution`` with the eight classes' shares
    of the votes. ``all_votes`` labels so every image more than half of whose remaining votes name one of the eight.

    Args:
        data: the folder of ``fer2013new.csv`` and the images, or the folder above it.
        split: which split.
        labels: see above.

    Raises:
        DatasetError: if the folder, a CSV or an image is missing, or a CSV is not valid.
    """
    root, _ = require_root(data, "FER+", VOTES)
    usage, folder = SPLITS[split]
    table = fer2013.table_in(root)
    in_table = not (root / folder).is_dir() and table.is_file()
    paths: list[Path] = []
    targets: list[npt.NDArray[np.float32]] = []
    images: list[Pixels] = []
    for name, votes, pixels in _joined(root, usage) if in_table else _named(root, usage):
        target = _target(votes, labels)
        if target is not None:
            paths.append((table if in_table else root / folder) / name)
            targets.append(target)
            images.extend([fer2013.image(pixels, f"{table}, {name}")] if in_table else [])
    if not in_table or not paths:
        require_any(paths, root / folder)
    by_majority = labels != "all_votes"
    remark = f"FER+ {split} has {EXPECTED[split]} images by this protocol, this copy has {len(paths)}"
    return ExpressionSet(
        "ferplus",
        split,
        PROTOCOL if by_majority else "all votes after dropping single ones",
        CLASSES,
        tuple(paths),
        np.stack(targets),
        remark=remark if by_majority and len(paths) != EXPECTED[split] else None,
        pixels=np.stack(images) if in_table else None,
    )


Row = tuple[str, npt.NDArray[np.float32], str]


def _named(root: Path, usage: str) -> Iterator[Row]:
    """Yield name, votes and no pixels of each face of a split."""
    for number, row in enumerate(rows(root / VOTES, ("Usage", "Image name", *VOTE_COLUMNS)), start=2):
        where = f"{root / VOTES}, line {number}"
        if fer2013.usage_of(row, where) == usage and row["Image name"]:
            yield row["Image name"], _votes(row, where), ""


def _joined(root: Path, usage: str) -> Iterator[Row]:
    """Yield name, votes and pixels of each face of a split, from both tables row by row."""
    votes = rows(root / VOTES, ("Usage", "Image name", *VOTE_COLUMNS))
    table = fer2013.table_in(root)
    pixels = rows(table, ("Usage", "pixels"))
    for number, (row, image) in enumerate(zip_longest(votes, pixels), start=2):
        if row is None or image is None or row["Usage"] != image["Usage"]:
            raise DatasetError(f"{root / VOTES} and {table} differ at line {number}; they must have the same rows")
        where = f"{root / VOTES}, line {number}"
        if fer2013.usage_of(row, where) == usage and row["Image name"]:
            yield row["Image name"], _votes(row, where), image["pixels"]


def _votes(row: Mapping[str, str], where: str) -> npt.NDArray[np.float32]:
    """Return the ten votes of a row, each 0 or more and finite."""
    try:
        votes = np.array([row[column] for column in VOTE_COLUMNS], dtype=np.float64)
    except ValueError as error:
        raise DatasetError(f"{where}: a vote is not a number: {error}") from error
    if not (votes >= 0).all() or not votes.sum() * 2 <= np.finfo(np.float32).max:  # twice the sum is computed
        found = ", ".join(f"{vote:g}" for vote in votes)
        raise DatasetError(f"{where}: expected votes of 0 or more, all finite, found {found}")
    return votes.astype(np.float32)


def _target(votes: npt.NDArray[np.float32], labels: LabelKind) -> npt.NDArray[np.float32] | None:
    """Return the image's distribution over the eight classes, or None where the protocol excludes it."""
    kept = np.where(votes > 1, votes, np.float32(0))
    shares = kept[: len(CLASSES)]
    winner = int(kept.argmax())
    if labels == "all_votes":
        counts = shares.sum() * 2 > kept.sum()
    else:
        counts = winner < len(CLASSES) and kept[winner] * 2 > kept.sum()
    if not counts:
        return None
    if labels == "majority":
        shares = np.eye(len(CLASSES), dtype=np.float32)[winner]
    target: npt.NDArray[np.float32] = shares / shares.sum()
    return target
