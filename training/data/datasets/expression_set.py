"""ExpressionSet: labelled images on disk, each with a share for every class."""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from manet.errors import ImageError
from manet.labels import Expression
from manet.vision.images import ImageLimits, image_bytes, read_image
from manet.vision.preprocess import Pixels
from training.errors import TrainingError
from training.files import read_text

Split = Literal["train", "valid", "test"]
LabelKind = Literal["majority", "distribution", "all_votes"]
Area = tuple[int, int, int, int]
"""Left, upper, right and lower edge of a face, in pixels of its image."""

LIMITS = ImageLimits(max_bytes=256 * 1024 * 1024, max_pixels=80_000_000)
"""The largest image of a data set: as large as Pillow reads without a warning, since its owner chose it."""


class DatasetError(TrainingError):
    """A data set on disk is not as its owners ship it; the message names the file and the error."""


@dataclass(frozen=True, slots=True)
class ExpressionSet:
    """One split of one data set.

    Attributes:
        name: the data set's name in ``training.data.datasets.LOADERS``.
        split: which split of it.
        protocol: one line on which images are included and how they were labelled.
        classes: the classes, in the order of ``targets``: expressions, or the people of an identity set.
        paths: the images; for images in a table, their names appended to the table's path.
        targets: (N, classes) float32, each row a distribution over the classes; one-hot for single labels.
        remark: how this copy differs from what the owners ship and which of its files are not read, or None.
        areas: the face's area in each image, None where the image is a face crop; for sets that ship photographs.
        pixels: the images themselves, uint8 (N, height, width), grey, for sets that ship a table.
    """

    name: str
    split: Split
    protocol: str
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    targets: npt.NDArray[np.float32]
    remark: str | None = None
    areas: tuple[Area | None, ...] | None = None
    pixels: Pixels | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The class with the largest share for each image, (N,)."""
        labels: npt.NDArray[np.int64] = self.targets.argmax(axis=1)
        return labels

    @property
    def sha256(self) -> str:
        """SHA-256 of the images' names and labels in their order; independent of the data set's folder."""
        # A name is relative to the common folder of all images, so that moving the data set does not change it.
        root = len(os.path.commonpath([path.parent for path in self.paths])) if self.paths else 0
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for path, target in zip(self.paths, self.targets, strict=True):
            digest.update(path.as_posix()[root:].encode(errors="surrogateescape"))
            digest.update(target.astype("<f4").tobytes())
        return digest.hexdigest()

    def read(self, index: int) -> Pixels:
        """Return an image of one face as the service sees it: upright, RGB, (height, width, 3).

        Raises:
            DatasetError: if the file is missing or not an image, or the face's area is outside it.
        """
        if self.pixels is not None:
            return np.repeat(self.pixels[index][:, :, None], 3, axis=2)
        path = self.paths[index]
        try:
            return self._face(read_image(image_bytes(path, LIMITS), limits=LIMITS), index)
        except (OSError, ImageError) as error:
            raise DatasetError(f"{path} cannot be read as an image: {error}") from error

    def without(self, indices: Collection[int], reason: str) -> Self:
        """Return the set without some of its images, with the reason in its protocol."""
        keep = [index for index in range(len(self)) if index not in indices]
        return self._at(keep, f"{self.protocol}, {len(self) - len(keep)} {reason} left out")

    def only_listed(self, listed: Path) -> Self:
        """Return only the images that a list names, such as the occluded ones of Wang et al. (IEEE TIP 2020).

        Args:
            listed: a file with one image a line, by its name with or without folder, suffix and RAF-DB's
                ``_aligned``; what follows a blank or a comma is ignored.

        Raises:
            DatasetError: if the file is missing, or none of its images is in the set.
        """
        lines = [line.replace(",", " ").split() for line in read_text(listed, DatasetError).splitlines()]
        stems = {_stem(Path(words[0])) for words in lines if words}
        keep = [index for index, path in enumerate(self.paths) if _stem(path) in stems]
        if not keep:
            raise DatasetError(f"none of the {len(stems)} images in {listed} is in {self.name} {self.split}")
        return self._at(keep, f"{self.protocol}, only the {len(keep)} of {len(stems)} in {listed.name}")

    def first(self, count: int) -> Self:
        """Return only the first images."""
        return self._at(list(range(min(count, len(self)))), f"{self.protocol}, the first {count}")

    def _at(self, keep: list[int], protocol: str) -> Self:
        return replace(
            self,
            protocol=protocol,
            paths=tuple(self.paths[i] for i in keep),
            targets=self.targets[keep],
            areas=self.areas and tuple(self.areas[i] for i in keep),
            pixels=None if self.pixels is None else self.pixels[keep],
        )

    def _face(self, image: Pixels, index: int) -> Pixels:
        area = self.areas and self.areas[index]
        if not area:
            return image
        left, upper, right, lower = area
        height, width = image.shape[:2]
        inside = max(left, 0), max(upper, 0), min(right, width), min(lower, height)
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            raise DatasetError(f"{self.paths[index]}: the face's area {area} is outside the image")
        return image[inside[1] : inside[3], inside[0] : inside[2]]


def _stem(path: Path) -> str:
    return path.stem.removesuffix("_aligned")


def one_hot(names: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return targets (N, classes) for images of one class each, by the classes' names."""
    index_of = {name: index for index, name in enumerate(classes)}
    targets = np.zeros((len(names), len(classes)), dtype=np.float32)
    targets[np.arange(len(names)), [index_of[name] for name in names]] = 1
    return targets


def count_remark(
    name: str, split: Split, labels: Sequence[str], expected: Mapping[Expression, int] | int
) -> str | None:
    """Return how a copy's counts differ from the owners', or None.

    Args:
        name: the data set.
        split: which split.
        labels: each image's class.
        expected: the owners' count of each class, or of all images where the counts of classes are unknown.
    """
    found = Counter(labels)
    total = expected if isinstance(expected, int) else sum(expected.values())
    differing = [] if isinstance(expected, int) else [(c, n, found[c]) for c, n in expected.items() if n != found[c]]
    if len(labels) == total and not differing:
        return None
    rows = ", ".join(f"{label} {have} of {want}" for label, want, have in differing)
    return f"{name} {split} has {total} images, this copy {len(labels)}" + (f": {rows}" if rows else "")


def join_remarks(*remarks: str | None) -> str | None:
    """Return several remarks as one, or None where there is none."""
    return "; ".join(filter(None, remarks)) or None


def require_any(paths: Sequence[Path], folder: Path) -> None:
    """Make sure that some of the listed images exist.

    Raises:
        DatasetError: if none does; the message counts them and names the first three.
    """
    if not paths:
        raise DatasetError(f"{folder} contains no images of this split")
    if not any(path.is_file() for path in paths):
        raise _missing_images(paths, paths, folder)


def require_all(data: ExpressionSet, folder: Path) -> None:
    """Make sure that all listed images exist.

    Raises:
        DatasetError: if some are missing; the message counts them and names the first three.
    """
    missing = [path for path in data.paths if not path.is_file()] if data.pixels is None else []
    if missing:
        raise _missing_images(missing, data.paths, folder)


def require_equal_classes(train: ExpressionSet, other: ExpressionSet) -> None:
    """Make sure that a class has the same number in two splits.

    Raises:
        DatasetError: if their classes or the order of these differ.
    """
    if train.classes != other.classes:
        raise DatasetError(
            f"{train.name}: the {train.split} data have the classes {', '.join(train.classes)}; "
            f"the {other.split} data {', '.join(other.classes)}"
        )


def _missing_images(missing: Sequence[Path], paths: Sequence[Path], folder: Path) -> DatasetError:
    first = [path.name for path in missing[:3]] + ["..."] * (len(missing) > 3)  # noqa: PLR2004
    listed = f": {', '.join(first)}" if first else ""
    return DatasetError(f"{folder} lacks {len(missing)} of {len(paths)} images{listed}")


def no_such_split(name: str, split: Split, available: Sequence[Split]) -> DatasetError:
    """Return the error for a split that the owners do not ship."""
    return DatasetError(f"{name} has no {split} split; its owners ship {', '.join(available)}")
