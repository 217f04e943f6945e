"""Identities: any set of one folder for each person, for the pretraining of the paper.

The authors used 12,666 people of MS-Celeb-1M, which was withdrawn in 2019; any other set can be used.
"""

from pathlib import Path

from training.data.datasets.expression_set import (
    DatasetError,
    ExpressionSet,
    LabelKind,
    Split,
    no_such_split,
    one_hot,
    require_any,
)
from training.data.datasets.layout import folders_in, images_in, not_read_remark

HELD_OUT_EVERY = 20
"""Of each person's images, in the order of their names, every twentieth is held out for validation."""


def load(data: Path, split: Split, labels: LabelKind = "majority") -> ExpressionSet:
    """Return the training images, or those held out of each person.

    Args:
        data: a folder with one folder for each person.
        split: ``train`` or ``valid``.
        labels: every image has one label, so this changes nothing.

    Raises:
        DatasetError: if there is no such folder, or fewer than two people in it, or no image of one.
    """
    if split == "test":
        raise no_such_split("identities", split, ("train", "valid"))
    if not data.is_dir():
        raise DatasetError(f"{data} is not a folder")
    people = [entry.name for entry in folders_in(data)]
    if len(people) < 2:  # noqa: PLR2004
        raise DatasetError(f"{data} contains {len(people)} folders; an identity set needs two or more")
    held_out = split == "valid"
    items = [
        (path, person)
        for person in people
        for place, path in enumerate(images_in(data / person), start=1)
        if (place % HELD_OUT_EVERY == 0) == held_out
    ]
    paths = tuple(path for path, _ in items)
    require_any(paths, data)
    protocol = f"one of {len(people)} people, every {HELD_OUT_EVERY}th image of each held out"
    return ExpressionSet(
        "identities",
        split,
        protocol,
        tuple(people),
        paths,
        one_hot([person for _, person in items], people),
        None if held_out else not_read_remark(data),  # said once for both splits
    )
