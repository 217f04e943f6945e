"""Data sets: one file each, from the layout its owners ship to an ExpressionSet."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from training.datasets import affectnet, fed_ro, fer2013, ferplus, folders, identities, packed, raf_db
from training.datasets.expression_set import DatasetError, ExpressionSet, LabelKind, Split
from training.datasets.layout import rows

Name = Literal[
    "affectnet7", "affectnet8", "caer_s", "fed_ro", "fer2013", "ferplus", "folders", "identities", "raf_db", "sfew"
]

Load = Callable[[Path, Split, LabelKind], ExpressionSet]
"""From the folder that holds a data set, split and kind of labels to the pictures."""

LOADERS: Mapping[Name, Load] = MappingProxyType(
    {
        "affectnet7": affectnet.load_7,
        "affectnet8": affectnet.load_8,
        "caer_s": folders.CAER_S.load,
        "fed_ro": fed_ro.load,
        "fer2013": fer2013.load,
        "ferplus": ferplus.load,
        "folders": folders.FOLDERS.load,
        "identities": identities.load,
        "raf_db": raf_db.load,
        "sfew": folders.SFEW.load,
    }
)
"""Data set name to what reads it."""


def load(
    name: Name, data: Path, split: Split, labels: LabelKind = "majority", *, duplicates: Path | None = None
) -> ExpressionSet:
    """Return one split of a data set.

    Args:
        name: which data set.
        data: the folder that holds it.
        split: which part.
        labels: one class a picture, or the share of votes for each class where the set has votes.
        duplicates: a CSV with a column ``image`` of pictures to leave out, or None to keep all.

    Raises:
        DatasetError: if what is on the disk is not what the owners ship.
    """
    if data.suffix == packed.SUFFIX:
        found = packed.load(data, name, split, labels)
    else:
        found = LOADERS[name](data, split, labels)
    if duplicates is None:
        return found
    listed = {row["image"] for row in rows(duplicates, ("image",))}
    return found.without([i for i, path in enumerate(found.paths) if path.name in listed], "listed duplicates")


def without_broken(data: ExpressionSet, *, skip: bool) -> tuple[ExpressionSet, list[str]]:
    """Return the pictures that can be read, and one line on each that cannot.

    Every picture is decoded once, in as many threads as there are cores.

    Args:
        data: what to look through.
        skip: whether a picture that cannot be read may be left out.

    Raises:
        DatasetError: if there is one and ``skip`` does not allow it; the message lists them all.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = dict(
            (index, complaint)
            for index, complaint in enumerate(pool.map(lambda index: _complaint(data, index), range(len(data))))
            if complaint is not None
        )
    if not complaints:
        return data, []
    lines = list(complaints.values())
    if not skip:
        listed = "\n".join(lines)
        raise DatasetError(f"{len(lines)} pictures cannot be read; leave them out with --skip-broken\n{listed}")
    return data.without(complaints, "broken pictures"), lines


def _complaint(data: ExpressionSet, index: int) -> str | None:
    try:
        data.read(index)
    except DatasetError as error:
        return str(error)
    return None
