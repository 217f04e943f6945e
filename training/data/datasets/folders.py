"""Folders: data sets that are one folder of images for each class.

The owners of CAER-S and SFEW 2.0 ship them like that; FED-RO and a user's own sets are read so, too. Folders are named
after the expression, as a noun or an adjective.
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
    join_remarks,
    no_such_split,
    one_hot,
    require_any,
)
from training.data.datasets.layout import by_class, class_folders, not_read_remark, require_root

PREPARED = "prepared.json"
"""The file that ``manet-train prepare`` writes beside the face crops."""


@dataclass(frozen=True, slots=True)
class FolderSet:
    """A data set in folders.

    Attributes:
        name: its name in ``training.data.datasets.LOADERS``.
        places: each split's folder, as its owners name it.
        expected: images in each split, where the owners' count is known.
        protocol: one line on its labels.
        whole: whether the owners ship whole photographs or film frames, so that faces must be cropped first.
    """

    name: str
    places: Mapping[Split, str]
    expected: Mapping[Split, int]
    protocol: str
    whole: bool = False

    def load(self, data: Path, split: Split, labels: LabelKind = "majority") -> ExpressionSet:
        """Return one split; every image has one label, so ``labels`` changes nothing.

        Raises:
            DatasetError: if the split does not exist, a folder is not named after one of the set's expressions or is
                one that the training split lacks, an image is missing, or the images must be prepared first.
        """
        if split not in self.places:
            raise no_such_split(self.name, split, tuple(self.places))
        root, _ = require_root(data, self.name, self.places[split])
        if self.whole and not (root / PREPARED).is_file():
            raise DatasetError(
                f"{root} contains whole images, not faces: first run manet-train prepare {self.name} "
                f"--data {root} --out DIR"
            )
        return self.read(root, split)

    def read(self, root: Path, split: Split) -> ExpressionSet:
        """Return one split from under ``root``, of whole images or faces."""
        items = by_class(root / self.places[split])
        names = [name for _, name in items]
        classes = CLASS_ORDERS.get(self.name) or self._training_classes(root, split, set(names))
        unknown = sorted(set(names) - set(classes))
        if unknown:
            raise DatasetError(f"{root / self.places[split]} has folders of other classes: {', '.join(unknown)}")
        paths = tuple(path for path, _ in items)
        require_any(paths, root / self.places[split])
        expected = self.expected.get(split)
        counts = None if expected is None else count_remark(self.name, split, names, expected)
        remark = join_remarks(counts, not_read_remark(root / self.places[split]))
        return ExpressionSet(self.name, split, self.protocol, classes, paths, one_hot(names, classes), remark)

    def _training_classes(self, root: Path, split: Split, found: set[str]) -> tuple[Expression, ...]:
        """Return the classes of the training split, by which every split is numbered; of a set without one, its own.

        Args:
            root: the folder of the splits.
            split: the one that is read.
            found: its classes.

        Raises:
            DatasetError: if the training split lacks one of them.
        """
        own = tuple(e for e in Expression if e in found)
        train = root / self.places["train"]
        if split == "train" or not train.is_dir():
            return own
        trained = {expression for _, expression in class_folders(train)}
        classes = tuple(e for e in Expression if e in trained)
        if not found <= trained:
            raise DatasetError(
                f"{root / self.places[split]} has the classes {', '.join(own)}; {train} has {', '.join(classes)}; "
                "expected no class that the training split lacks"
            )
        return classes


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
"""A user's own set: ``train/happiness/*.jpg`` and so on; only the splits that are used must exist.

Its classes are those of ``train``, which the other splits may lack but not exceed."""
