"""Packed sets: grey images of one size in one file, small enough to be copied to another machine quickly.

A file is a NumPy archive. For each split it contains the images as one PNG, one below the other, their names, and for
each kind of labels the targets, with zeros where the protocol excludes an image.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from manet.files import atomic_write
from manet.labels import Expression
from training.data.datasets.expression_set import DatasetError, ExpressionSet, LabelKind, Split, require_equal_classes

SUFFIX = ".npz"

Kinds = Mapping[LabelKind, ExpressionSet]
"""One split by each kind of labels."""


def save(splits: Mapping[Split, Kinds], out: Path) -> None:
    """Write a packed file.

    Args:
        splits: the sets to pack; those of one split may include different images.
        out: output file; its suffix must be ``.npz``.

    Raises:
        DatasetError: if the images differ in size or are not grey, or the sets in their classes.
    """
    first, *others = (data for kinds in splits.values() for data in kinds.values())
    for other in others:
        require_equal_classes(first, other)
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, object] = {}
    for split, kinds in splits.items():
        names: dict[str, tuple[ExpressionSet, int]] = {}
        for data in kinds.values():
            for index, path in enumerate(data.paths):
                names.setdefault(path.name, (data, index))
        images = [_grey(*place) for place in names.values()]
        if len({image.shape for image in images}) != 1:
            raise DatasetError(f"{out}: a packed set contains images of one size")
        arrays[f"{split}/images"] = _as_png(np.concatenate(images))
        arrays[f"{split}/names"] = np.array(list(names))
        index_of = {name: index for index, name in enumerate(names)}
        for kind, data in kinds.items():
            targets = np.zeros((len(names), len(data.classes)), np.float32)
            targets[[index_of[path.name] for path in data.paths]] = data.targets
            arrays[f"{split}/{kind}"] = targets
            facts[f"{split}/{kind}"] = data.protocol
        data = next(iter(kinds.values()))
        facts |= {"name": data.name, "classes": list(data.classes), "side": images[0].shape[0]}
    arrays["facts"] = np.array(json.dumps(facts))
    atomic_write(out, lambda part: _write(part, arrays))


def load(file: Path, name: str, split: Split, labels: LabelKind) -> ExpressionSet:
    """Return a split of a packed file.

    Raises:
        DatasetError: if the file is not a packed set, or contains another set, or lacks that split and kind of labels.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            facts = json.loads(str(arrays["facts"]))
            key = f"{split}/{labels}"
            if facts["name"] != name or key not in facts:
                available = ", ".join(sorted(key for key in facts if "/" in key))
                raise DatasetError(f"{file} contains {facts['name']}: {available}; not {name}: {key}")
            targets, names = arrays[key], arrays[f"{split}/names"]
            sheet = np.asarray(Image.open(io.BytesIO(arrays[f"{split}/images"].tobytes())))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{file} cannot be read as a packed set: {error}") from error
    counted = targets.sum(axis=1) > 0
    known = {str(expression) for expression in Expression}
    return ExpressionSet(
        name,
        split,
        facts[key],
        tuple(Expression(label) if label in known else label for label in facts["classes"]),
        tuple(file / str(image) for image in names[counted]),
        targets[counted],
        pixels=sheet.reshape(len(names), facts["side"], -1)[counted],
    )


def _grey(data: ExpressionSet, index: int) -> np.ndarray:
    image = data.read(index)
    if (image != image[:, :, :1]).any():
        raise DatasetError(f"{data.paths[index]} is not grey; a packed set contains grey images")
    return image[:, :, 0]


def _as_png(sheet: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "png", optimize=True)
    return np.frombuffer(file.getvalue(), np.uint8)


def _write(part: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
