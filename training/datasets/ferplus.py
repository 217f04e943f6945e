"""FER+: the FER2013 pictures with ten votes each (Barsoum et al., ICMI 2016).

Layout: ``ferplus/fer2013new.csv`` with Usage, Image name and ten vote columns, and the pictures in
``ferplus/FER2013{Train,Valid,Test}/``. Rows and pictures are joined by name; rows without a name are not faces.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manet.labels import CLASS_ORDERS
from training.datasets.expression_set import DatasetError, ExpressionSet, LabelKind, Split

CLASSES = CLASS_ORDERS["ferplus"]
VOTE_COLUMNS = (*(expression.value for expression in CLASSES), "unknown", "NF")
SPLITS = {
    "train": ("Training", "FER2013Train"),
    "valid": ("PublicTest", "FER2013Valid"),
    "test": ("PrivateTest", "FER2013Test"),
}
EXPECTED = {"train": 25060, "valid": 3199, "test": 3153}
"""Pictures that the majority protocol counts, duplicates included."""


def load(data: Path, split: Split, labels: LabelKind, duplicates: Path | None = None) -> ExpressionSet:
    """Return one split by the majority protocol.

    Single votes are set to zero; a picture counts if one of the eight classes then holds more than half of what
    remains. ``majority`` labels it with that class, ``distribution`` with the eight classes' shares of the votes.

    Args:
        data: the folder that holds ``ferplus/``.
        split: which part.
        labels: see above.
        duplicates: a CSV with a column ``image`` of pictures to leave out, or None to keep them.

    Raises:
        DatasetError: if the folder, the CSV or a picture is missing, or the CSV is not FER+'s.
    """
    root = data / "ferplus"
    usage, folder = SPLITS[split]
    left_out = _read_duplicates(duplicates) if duplicates else frozenset[str]()
    paths: list[Path] = []
    targets: list[npt.NDArray[np.float32]] = []
    counted = 0
    for name, votes in _rows(root / "fer2013new.csv", usage):
        target = _target(votes, labels)
        counted += target is not None
        if target is not None and name not in left_out:
            paths.append(root / folder / name)
            targets.append(target)
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise DatasetError(
            f"{root / folder} lacks {len(missing)} of {len(paths)} pictures"
            + (f", first {missing[0]}" if missing else "")
        )
    suffix = f", {counted - len(paths)} listed duplicates left out" if left_out else ""
    protocol = f"majority of votes after dropping single votes{suffix}"
    remark = f"FER+ {split} has {EXPECTED[split]} pictures by this protocol, this copy has {counted}"
    return ExpressionSet(
        "ferplus",
        split,
        protocol,
        CLASSES,
        tuple(paths),
        np.stack(targets),
        remark=None if counted == EXPECTED[split] else remark,
    )


def _rows(path: Path, usage: str) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            absent = {"Usage", "Image name", *VOTE_COLUMNS} - set(reader.fieldnames or ())
            if absent:
                raise DatasetError(f"{path} lacks the columns {', '.join(sorted(absent))}")
            for row in reader:
                if row["Usage"] == usage and row["Image name"]:
                    yield row["Image name"], np.array([row[c] for c in VOTE_COLUMNS], dtype=np.float32)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error


def _target(votes: npt.NDArray[np.float32], labels: LabelKind) -> npt.NDArray[np.float32] | None:
    """Return the picture's distribution over the eight classes, or None where the protocol does not count it."""
    kept = np.where(votes > 1, votes, np.float32(0))
    winner = int(kept.argmax())
    if winner >= len(CLASSES) or kept[winner] * 2 <= kept.sum():
        return None
    shares = np.eye(len(CLASSES), dtype=np.float32)[winner] if labels == "majority" else kept[: len(CLASSES)]
    target: npt.NDArray[np.float32] = shares / shares.sum()
    return target


def _read_duplicates(path: Path) -> frozenset[str]:
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if "image" not in (reader.fieldnames or ()):
                raise DatasetError(f"{path} has no column 'image'")
            return frozenset(row["image"] for row in reader)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
