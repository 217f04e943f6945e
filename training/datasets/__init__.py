"""Data sets: one file each, from the layout its owners ship to an ExpressionSet."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from training.datasets import ferplus
from training.datasets.expression_set import ExpressionSet, LabelKind, Split

Load = Callable[[Path, Split, LabelKind, Path | None], ExpressionSet]
"""From the folder that holds a data set, split, kind of labels and list of duplicates to the pictures."""

LOADERS: Mapping[str, Load] = MappingProxyType({"ferplus": ferplus.load})
"""Data set name to what reads it."""
