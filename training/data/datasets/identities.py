"""Identities: any set of one folder for each person, for the pretraining that the paper begins from.

The authors used 12,666 people of MS-Celeb-1M, which was withdrawn in 2019; any other set will do, of any number.
"""

from pathlib import Path

from training.data.datasets.expression_set import (
    DatasetError,
    ExpressionSet,
    LabelKind,
    Split,
    demand,
    no_such_split,
    one_hot,
)
from training.data.datasets.layout import folders_in, images_in

HELD_BACK = 20
"""Of each person's images, in the order of their names, every twentieth judges and is not trained on."""


def load(data: Path, split: Split, labels: LabelKind = "majority") -> ExpressionSet:
    """Return the training images, or those held back from each person.

    Args:
        data: a folder that holds one folder for each person.
        split: ``train`` or ``valid``.
        labels: every image has one label, so this changes nothing.

    Raises:
        DatasetError: if there is no such folder, or fewer than two people in it.
    """
    if split == "test":
        raise no_such_split("identities", split, ("train", "valid"))
    if not data.is_dir():
        raise DatasetError(f"{data} is no folder")
    people = [entry.name for entry in folders_in(data)]
    if len(people) < 2:  # noqa: PLR2004
        raise DatasetError(f"{data} holds {len(people)} folders; telling people apart takes two or more")
    held_back = split == "valid"
    items = [
        (path, person)
        for person in people
        for place, path in enumerate(images_in(data / person), start=1)
        if (place % HELD_BACK == 0) == held_back
    ]
    paths = tuple(path for path, _ in items)
    demand(paths, data)
    protocol = f"one of {len(people)} people, every {HELD_BACK}th image of each held back"
    return ExpressionSet(
        "identities", split, protocol, tuple(people), paths, one_hot([person for _, person in items], people)
    )
