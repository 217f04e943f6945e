"""RAF-DB, basic expressions: photographs from the web, aligned by their owners (Li, Deng, Du, CVPR 2017).

Layout: ``basic/EmoLabel/list_patition_label.txt`` (the owners' spelling) with lines such as ``train_00001.jpg 5``, and
``basic/Image/aligned/train_00001_aligned.jpg``. The authors of MA-Net sorted the same images into ``train/0..6`` and
``test/0..6``, numbered in their own order; other copies have ``train/1..7`` and ``test/1..7``, numbered as in the
owners' list. All three are read.
"""

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
from training.data.datasets.layout import by_class, not_read_remark, require_root
from training.files import read_text

CLASSES = CLASS_ORDERS["raf_db"]
LIST = "basic/EmoLabel/list_patition_label.txt"
OWNERS_NUMBERS = MappingProxyType(
    {
        "1": Expression.SURPRISE,
        "2": Expression.FEAR,
        "3": Expression.DISGUST,
        "4": Expression.HAPPINESS,
        "5": Expression.SADNESS,
        "6": Expression.ANGER,
        "7": Expression.NEUTRAL,
    }
)
_COUNTS = MappingProxyType(
    {"train": (1290, 281, 717, 4772, 1982, 705, 2524), "test": (329, 74, 160, 1185, 478, 162, 680)}
)
EXPECTED = MappingProxyType(
    {split: dict(zip(OWNERS_NUMBERS.values(), counts, strict=True)) for split, counts in _COUNTS.items()}
)
"""The owners' count of each class."""


def load(data: Path, split: Split, labels: LabelKind = "majority") -> ExpressionSet:
    """Return the training or the test images; every image has one label, so ``labels`` changes nothing.

    Raises:
        DatasetError: if the layout is none of the three, a line is not valid, or an image is missing.
    """
    if split not in EXPECTED:
        raise no_such_split("raf_db", split, ("train", "test"))
    root, mark = require_root(data, "RAF-DB", LIST, "train/0", "train/7")
    if mark == LIST:
        found = _listed(root, split)
    else:
        # Folders 1 to 6 are in both numberings, so that 0 or 7 decides which it is; with both it is neither.
        if (root / "train/0").is_dir() and (root / "train/7").is_dir():
            raise DatasetError(f"{root / 'train'} has folders 0 and 7; expected 0 to 6 (authors) or 1 to 7 (owners)")
        authors = {str(index): expression for index, expression in enumerate(CLASSES)}
        found = by_class(root / split, authors if mark == "train/0" else OWNERS_NUMBERS)
    paths, names = tuple(path for path, _ in found), [name for _, name in found]
    require_any(paths, root)
    not_read = None if mark == LIST else not_read_remark(root / split)
    remark = join_remarks(count_remark("raf_db", split, names, EXPECTED[split]), not_read)
    protocol = "the owners' single labels, aligned faces"
    return ExpressionSet("raf_db", split, protocol, CLASSES, paths, one_hot(names, CLASSES), remark)


def _listed(root: Path, split: Split) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    for number, line in enumerate(read_text(root / LIST, DatasetError).splitlines(), start=1):
        name, _, label = line.strip().partition(" ")
        if not name:
            continue
        if label not in OWNERS_NUMBERS:
            raise DatasetError(f"{root / LIST}, line {number}: expected an image and a label 1 to 7, found {line!r}")
        if name.startswith(f"{split}_"):
            stem = name.rpartition(".")[0]
            found.append((root / "basic/Image/aligned" / f"{stem}_aligned.jpg", OWNERS_NUMBERS[label]))
    return found
