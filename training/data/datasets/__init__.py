"""Data sets: one file each, from the layout its owners ship to an ExpressionSet."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from torch.utils.data import DataLoader, Dataset

from manet.cpus import available_cpus
from training.data.datasets import affectnet, fed_ro, fer2013, ferplus, folders, identities, packed, raf_db
from training.data.datasets.expression_set import DatasetError, ExpressionSet, LabelKind, Split, require_all
from training.data.datasets.layout import rows

Name = Literal[
    "affectnet7", "affectnet8", "caer_s", "fed_ro", "fer2013", "ferplus", "folders", "identities", "raf_db", "sfew"
]

IMAGES_PER_PROCESS = 1000
"""Images to decode for each additional process; starting it takes as long as decoding some hundred."""

DECODE_BATCH = 64
"""Images that a process decodes between two results."""

Load = Callable[[Path, Split, LabelKind], ExpressionSet]
"""From the folder of a data set, a split and a kind of labels to the images."""

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
"""Data set name to its loader."""


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
        name: name of the data set.
        data: its folder.
        split: which split.
        labels: one class per image, or the share of votes for each class where the set has votes.
        duplicates: a CSV with a column ``image`` of images to leave out, or None to keep all.
        skip_missing: whether listed images may be missing; ``broken`` then finds them.

    Raises:
        DatasetError: if the files are not as the owners ship them.
    """
    if data.suffix == packed.SUFFIX:
        found = packed.load(data, name, split, labels)
    else:
        found = LOADERS[name](data, split, labels)
    if duplicates is not None:
        listed = {row["image"] for row in rows(duplicates, ("image",))}
        found = found.without([i for i, path in enumerate(found.paths) if path.name in listed], "listed duplicates")
    if not skip_missing:
        require_all(found, data)
    return found


def without_broken(data: ExpressionSet, *, skip: bool) -> tuple[ExpressionSet, list[str]]:
    """Return the images that can be read, and one error for each that cannot.

    Every image is decoded once, in as many processes as there are cores.

    Args:
        data: the images to check.
        skip: whether an image that cannot be read may be left out.

    Raises:
        DatasetError: if there is one and ``skip`` does not allow it; the message lists them all.
    """
    errors = broken(data, processes=available_cpus())
    require_no_broken(errors, skip=skip)
    return drop_broken(data, tuple(errors)), list(errors.values())


def broken(data: ExpressionSet, *, processes: int) -> dict[int, str]:
    """Return the index of each image that cannot be decoded, ascending, and the error.

    Args:
        data: the images, each of which is decoded once.
        processes: maximum number of worker processes; threads would wait for the interpreter lock. Few images are
            decoded in this process, sooner than others start.
    """
    if data.pixels is not None:
        return {}  # decoded already
    workers = min(processes, len(data) // IMAGES_PER_PROCESS)
    loader: DataLoader[str | None] = DataLoader(
        _DecodeErrors(data), batch_size=DECODE_BATCH, collate_fn=list, num_workers=workers if workers > 1 else 0
    )
    errors = (error for batch in loader for error in batch)
    return {index: error for index, error in enumerate(errors) if error is not None}


def require_no_broken(errors: Mapping[int, str], *, skip: bool) -> None:
    """Make sure that no image is broken, unless broken images may be left out.

    Raises:
        DatasetError: if there is one; the message lists them all.
    """
    if errors and not skip:
        listed = "\n".join(errors.values())
        raise DatasetError(f"{len(errors)} images cannot be read; leave them out with --skip-broken\n{listed}")


def drop_broken(data: ExpressionSet, indices: Collection[int]) -> ExpressionSet:
    """Return a set without its broken images, which its protocol then counts."""
    return data.without(indices, "broken images") if indices else data


class _DecodeErrors(Dataset[str | None]):
    """The error of each image of a set; None where it can be read."""

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
