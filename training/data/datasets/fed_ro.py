"""FED-RO: 400 photographs of faces with real occlusions, for testing (Li et al., IEEE TIP 2019).

Its owners ship no training images. The authors of MA-Net trained on AffectNet-7 and RAF-DB together (inferred from
the 296,172 images in their log), so the training split is those two, read from the same folder.
"""

from pathlib import Path
from types import MappingProxyType

import numpy as np

from manet.labels import CLASS_ORDERS
from training.data.datasets import affectnet, raf_db
from training.data.datasets.expression_set import ExpressionSet, LabelKind, Split, join_remarks, no_such_split
from training.data.datasets.folders import FolderSet

CLASSES = CLASS_ORDERS["fed_ro"]
TEST = FolderSet(
    "fed_ro",
    MappingProxyType({"test": "FED-RO"}),
    MappingProxyType({"test": 400}),
    "the owners' single labels, real occlusions",
)


def load(data: Path, split: Split, labels: LabelKind = "majority") -> ExpressionSet:
    """Return the 400 images, or the two training sets.

    Args:
        data: a folder with ``FED-RO/`` (a folder for each expression), AffectNet and RAF-DB in it.
        split: ``train`` or ``test``.
        labels: every image has one label, so this changes nothing.

    Raises:
        DatasetError: as the loaders of these data sets do.
    """
    if split == "test":
        return TEST.load(data, split)
    if split == "valid":
        raise no_such_split("fed_ro", split, ("test",))
    parts = affectnet.load_7(data, split), raf_db.load(data, split)
    areas = None
    if parts[0].areas is not None:
        areas = (*parts[0].areas, *(None for _ in parts[1].paths))
    return ExpressionSet(
        "fed_ro",
        split,
        "AffectNet-7 and RAF-DB training images",
        CLASSES,
        tuple(path for part in parts for path in part.paths),
        np.concatenate([part.targets for part in parts]),
        join_remarks(*(part.remark for part in parts)),
        areas=areas,
    )
