"""Folders: data sets that are one folder of images for each class.

CAER-S and SFEW 2.0 come like that from their owners; FED-RO and any set of a user's own are read so. Folders are named
by the expression, as the noun or the adjective.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from manet.labels import CLASS_ORDERS, Expression
from training.data.datasets.expression_set import (
    DatasetError,
    ExpressionSet,
    LabelKind,
    Split,
    count_remark,
    demand,
    no_such_split,
    one_hot,
)
from training.data.datasets.layout import by_class, need_root

PREPARED = "prepared.json"
"""What ``manet-train prepare`` leaves beside the faces that it cut out."""


@dataclass(frozen=True, slots=True)
class FolderSet:
    """What is known of a data set in folders.

    Attributes:
        name: its name in ``training.data.datasets.LOADERS``.
        places: each split's folder, as its owners name it.
        expected: images in each split, where the owners' count is known.
        protocol: one line on its labels.
        whole: whether the owners ship whole photographs or film frames, so that faces must be cut out first.
    """

    name: str
    places: Mapping[Split, str]
    expected: Mapping[Split, int]
    protocol: str
    whole: bool = False

    def load(self, data: Path, split: Split, labels: LabelKind = "majority") -> ExpressionSet:
        """Return one split; every image has one label, so ``labels`` changes nothing.

        Raises:
            DatasetError: if the split does not exist, a folder names no expression or one that the set has not, a
                image is missing, or the images still await preparation.
        """
        if split not in self.places:
            raise no_such_split(self.name, split, tuple(self.places))
        root, _ = need_root(data, self.name, self.places[split])
        if self.whole and not (root / PREPARED).is_file():
            raise DatasetError(
                f"{root} holds whole images, not faces: first run manet-train prepare {self.name} "
                f"--data {root} --out DIR"
            )
        return self.read(root, split)

    def read(self, root: Path, split: Split) -> ExpressionSet:
        """Return one split from under ``root``, whatever its images show."""
        items = by_class(root / self.places[split])
        names = [name for _, name in items]
        classes = CLASS_ORDERS.get(self.name) or tuple(e for e in Expression if e in set(names))
        strange = sorted(set(names) - set(classes))
        if strange:
            raise DatasetError(f"{root / self.places[split]} has folders of other classes: {', '.join(strange)}")
        paths = tuple(path for path, _ in items)
        demand(paths, root / self.places[split])
        expected = self.expected.get(split)
        remark = None if expected is None else count_remark(self.name, split, names, expected)
        return ExpressionSet(self.name, split, self.protocol, classes, paths, one_hot(names, classes), remark)


_NONE: Mapping[Split, int] = MappingProxyType({})

CAER_S = FolderSet(
    "caer_s",
    MappingProxyType({"train": "train", "test": "test"}),
    # Frames in which the authors found a face; the owners ship some twenty more.
    MappingProxyType({"train": 48_995, "test": 20_987}),
    "the owners' single labels, the largest face of each film frame",
    whole=True,
)
"""CAER-S, film frames (Lee et al., ICCV 2019)."""

SFEW = FolderSet(
    "sfew",
    MappingProxyType({"train": "Train/Train_Aligned_Faces", "valid": "Val/Val_Aligned_Faces"}),
    MappingProxyType({"train": 958, "valid": 436}),
    "the owners' single labels, aligned faces",
)
"""SFEW 2.0, film stills (Dhall et al., ICMI 2015)."""

FOLDERS = FolderSet(
    "folders",
    MappingProxyType({"train": "train", "valid": "valid", "test": "test"}),
    _NONE,
    "one folder for each expression",
)
"""Anybody's own: ``train/happiness/*.jpg`` and so on; only the splits that are used need to be there."""
