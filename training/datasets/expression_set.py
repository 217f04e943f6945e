"""ExpressionSet: pictures on disk, each with a share for every class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from manet.labels import Expression
from manet.preprocess import Pixels

Split = Literal["train", "valid", "test"]
LabelKind = Literal["majority", "distribution"]


class DatasetError(Exception):
    """A data set on disk is not as its owners ship it; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class ExpressionSet:
    """One split of one data set.

    Attributes:
        name: the data set's name in ``manet.labels.CLASS_ORDERS``.
        split: which part of it.
        protocol: one line that says which pictures count and how they were labelled.
        classes: the classes, in the order of ``targets``.
        paths: the pictures.
        targets: (N, classes) float32, each row a distribution over the classes; one-hot for majority labels.
        remark: how this copy differs from what the owners ship, or None where it does not.
    """

    name: str
    split: Split
    protocol: str
    classes: tuple[Expression, ...]
    paths: tuple[Path, ...]
    targets: npt.NDArray[np.float32]
    remark: str | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The class with the largest share for each picture, (N,)."""
        labels: npt.NDArray[np.int64] = self.targets.argmax(axis=1)
        return labels

    def read(self, index: int) -> Pixels:
        """Return a picture as RGB, (height, width, 3).

        Raises:
            DatasetError: if the file is missing or no picture.
        """
        path = self.paths[index]
        try:
            with Image.open(path) as picture:
                return np.asarray(picture.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise DatasetError(f"{path} cannot be read as a picture: {error}") from error
