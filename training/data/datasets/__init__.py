"""Data sets: one file each, from the layout its owners ship to an ExpressionSet."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from torch.utils.data import DataLoader, Dataset

from manet.cpus import available_cpus
from training.data.datasets import affectnet, fed_ro, fer2013, ferplus, folders, identities, packed, raf_db
from training.data.datasets.expression_set import DatasetError, ExpressionSet, LabelKind, Split, demand_all
from training.data.datasets.layout import rows

Name = Literal[
    "affectnet7", "affectnet8", "caer_s", "fed_ro", "fer2013", "ferplus", "folders", "identities", "raf_db", "sfew"
]

WORTH_A_PROCESS = 1000
"""Images that one process more must have to decode; to start it takes as long as some hundred."""

DECODED_AT_ONCE = 64
"""Images that a process decodes before it reports."""

Load = Callable[[Path, Split, LabelKind], ExpressionSet]
"""From the folder that holds a data set, split and kind of labels to the images."""

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
    name: Name,
    data: Path,
    split: Split,
    labels: LabelKind = "majority",
    *,
    duplicates: Path | None = None,
    skip_missing: bool = False,
) -> ExpressionSet:
    """Return one split of a data set.

    Args:
        name: which data set.
        data: the folder that holds it.
        split: which part.
        labels: one class an image, or the share of votes for each class where the set has votes.
        duplicates: a CSV with a column ``image`` of images to leave out, or None to keep all.
        skip_missing: whether listed images may be missing; ``broken`` then finds them.

    Raises:
        DatasetError: if what is on the disk is not what the owners ship.
    """
    if data.suffix == packed.SUFFIX:
        found = packed.load(data, name, split, labels)
    else:
        found = LOADERS[name](data, split, labels)
    if duplicates is not None:
        listed = {row["image"] for row in rows(duplicates, ("image",))}
        found = found.without([i for i, path in enumerate(found.paths) if path.name in listed], "listed duplicates")
    if not skip_missing:
        demand_all(found, data)
    return found


def without_broken(data: ExpressionSet, *, skip: bool) -> tuple[ExpressionSet, list[str]]:
    """Return the images that can be read, and one line on each that cannot.

    Every image is decoded once, in as many processes as there are cores.

    Args:
        data: what to look through.
        skip: whether an image that cannot be read may be left out.

    Raises:
        DatasetError: if there is one and ``skip`` does not allow it; the message lists them all.
    """
    complaints = broken(data, processes=available_cpus())
    demand_whole(complaints, skip=skip)
    return less_broken(data, tuple(complaints)), list(complaints.values())


def broken(data: ExpressionSet, *, processes: int) -> dict[int, str]:
    """Return the place of each image that cannot be decoded, ascending, and what is wrong with it.

    Args:
        data: the images, each of which is decoded once.
        processes: how many decode at most. Small images keep Python busier than the decoder, so threads would wait
            for one another; few images are decoded here, sooner than processes start.
    """
    if data.pixels is not None:
        return {}  # decoded already
    workers = min(processes, len(data) // WORTH_A_PROCESS)
    loader: DataLoader[str | None] = DataLoader(
        _Complaints(data), batch_size=DECODED_AT_ONCE, collate_fn=list, num_workers=workers if workers > 1 else 0
    )
    complaints = (complaint for batch in loader for complaint in batch)
    return {index: complaint for index, complaint in enumerate(complaints) if complaint is not None}


def demand_whole(complaints: Mapping[int, str], *, skip: bool) -> None:
    """Make sure that no image is broken, unless they may be left out.

    Raises:
        DatasetError: if there is one; the message lists them all.
    """
    if complaints and not skip:
        listed = "\n".join(complaints.values())
        raise DatasetError(f"{len(complaints)} images cannot be read; leave them out with --skip-broken\n{listed}")


def less_broken(data: ExpressionSet, places: Collection[int]) -> ExpressionSet:
    """Return a set less its broken images, which its protocol then counts."""
    return data.without(places, "broken images") if places else data


class _Complaints(Dataset[str | None]):
    """What is wrong with each image of a set; None where nothing is."""

    def __init__(self, data: ExpressionSet) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> str | None:
        try:
            self._data.read(index)
        except DatasetError as error:
            return str(error)
        return None
