"""Preparation: faces detected, aligned and cropped from the images that a data set's owners ship.

The output has the owners' folders and names, so that the same code reads it. A set of film frames or photographs is
processed once, in several processes; images that exist already are skipped.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.errors import ManetError
from manet.files import atomic_write
from manet.vision.faces import DetectedFace, FaceCrop, align
from manet.vision.images import ImageLimits, read_image
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import RetinaFaceDetector
from manet.weights.registry import get
from training.data.datasets import affectnet, folders
from training.data.datasets.expression_set import DatasetError, Split
from training.data.datasets.layout import require_root

Preparable = Literal["affectnet7", "affectnet8", "caer_s"]

SIDE = 256
"""Side of a prepared face, px: room for the authors' random crops at 224."""

NOT_FOUND = "not_found.csv"

Progress = Callable[[int, int], object]
"""Takes the number of images done and the total."""


@dataclass(frozen=True, slots=True)
class FaceTask:
    """One image to prepare.

    Attributes:
        source: the owners' image.
        target: path of the face crop.
        area: the owners' box of the face (left, upper, right, lower, px), or None where they ship none.
        label: the owners' number of its class, where the labels are not folder names.
    """

    source: Path
    target: Path
    area: tuple[int, int, int, int] | None = None
    label: int | None = None


@dataclass(frozen=True, slots=True)
class PrepareResult:
    """The result of preparing a data set.

    Attributes:
        faces: number of faces written, now or by an earlier call.
        missing: images without a face, with the reason.
    """

    faces: int
    missing: tuple[tuple[Path, str], ...]


def prepare(name: Preparable, data: Path, out: Path, *, processes: int, progress: Progress) -> PrepareResult:
    """Write the faces of a data set to a new folder, and ``not_found.csv`` with the images that have none.

    CAER-S: the largest face that the service's detector finds in the frame. AffectNet: the face that the detector finds
    within the owners' box, or their box where it finds none. Each is aligned to the place that faces have in FER+.

    Args:
        name: name of the data set.
        data: its folder, as the owners ship it.
        out: output folder; faces of an earlier call are kept.
        processes: number of worker processes.
        progress: called after each image.

    Raises:
        DatasetError: if the data set is not as its owners ship it.
        OSError: if a face cannot be written.
    """
    tasks = list(_caer_s(data, out) if name == "caer_s" else _affectnet(data, out, name))
    pending = [task for task in tasks if not task.target.is_file()]
    done = len(tasks) - len(pending)
    progress(done, len(tasks))
    missing: list[tuple[Path, str]] = []
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for task, error in zip(pending, pool.map(_write_face, pending, chunksize=16), strict=True):
            done += 1
            if error is not None:
                missing.append((task.source, error))
            progress(done, len(tasks))
    atomic_write(out / NOT_FOUND, partial(_write_missing, missing))
    found = len(tasks) - len(missing)
    summary = {"dataset": name, "side": SIDE, "images": len(tasks), "faces": found}
    atomic_write(out / folders.PREPARED, lambda part: part.write_text(json.dumps(summary, indent=2) + "\n"))
    return PrepareResult(found, tuple(missing))


def _caer_s(data: Path, out: Path) -> Iterator[FaceTask]:
    for split, place in folders.CAER_S.places.items():
        root, _ = require_root(data, folders.CAER_S.name, place)
        yield from (FaceTask(path, out / path.relative_to(root)) for path in folders.CAER_S.read(root, split).paths)


def _affectnet(data: Path, out: Path, name: affectnet.Name) -> Iterator[FaceTask]:
    splits: Sequence[Split] = ("train", "valid")
    for split in splits:
        whole = affectnet.load(data, split, name=name)
        if whole.areas is None:
            raise DatasetError(f"{data} contains AffectNet already cropped to faces; it needs no preparation")
        folder = out / ("train_set" if split == "train" else "val_set") / "images"
        numbers = [affectnet.OWNERS_NUMBERS.index(whole.classes[label]) for label in whole.labels]
        for path, area, number in zip(whole.paths, whole.areas, numbers, strict=True):
            yield FaceTask(path, folder / f"{path.parent.name}_{path.stem}.jpg", area, number)


def _write_face(task: FaceTask) -> str | None:
    """Write one face; return the reason if there is none."""
    try:
        image = read_image(task.source.read_bytes(), limits=ImageLimits())
    except (ManetError, OSError) as error:
        return str(error)
    face = _choose_face(_detector().detect(image), task.area)
    if face is not None:
        crop = align(image, face.landmarks, _crop(), SIDE)
    elif task.area is not None:
        crop = _box(image, task.area)
    else:
        return "no face found"
    task.target.parent.mkdir(parents=True, exist_ok=True)
    if task.label is not None:
        notes = task.target.parent.parent / "annotations"
        notes.mkdir(exist_ok=True)
        with (notes / f"{task.target.stem}_exp.npy").open("wb") as file:
            np.save(file, np.array(task.label))
    atomic_write(task.target, lambda part: Image.fromarray(crop).save(part, format=_format(task.target), quality=95))
    return None


def _choose_face(faces: Sequence[DetectedFace], area: tuple[int, int, int, int] | None) -> DetectedFace | None:
    """Return the largest face, or the largest of those whose centre is in the owners' box."""
    for face in faces:  # the largest first
        if area is None:
            return face
        x, y = face.box.x + face.box.width / 2, face.box.y + face.box.height / 2
        if area[0] <= x <= area[2] and area[1] <= y <= area[3]:
            return face
    return None


def _box(image: Pixels, area: tuple[int, int, int, int]) -> Pixels:
    left, upper, right, lower = area
    part = image[max(upper, 0) : max(lower, 1), max(left, 0) : max(right, 1)]
    return np.asarray(Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _format(target: Path) -> str:
    return "PNG" if target.suffix.lower() == ".png" else "JPEG"


def _write_missing(missing: Sequence[tuple[Path, str]], part: Path) -> None:
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "reason"))
        writer.writerows((str(path), reason) for path, reason in missing)


@cache
def _detector() -> RetinaFaceDetector:
    """Return this process's detector."""
    return RetinaFaceDetector(OpenVinoFaceNetwork(threads=1))


@cache
def _crop() -> FaceCrop:
    crop = get("ferplus").crop
    assert crop is not None
    return crop
