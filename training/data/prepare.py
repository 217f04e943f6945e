"""Preparation: faces found, aligned and cut out of the images that a data set's owners ship.

What is written has the owners' folders and names, so that the same code reads it. A set of film frames or photographs
is gone through once, in several processes; an image that is there already is not done again.
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

from manet.errors import ManetError
from manet.files import atomic_write
from manet.vision.faces import DetectedFace, FaceCrop, align
from manet.vision.images import ImageLimits, read_image
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import RetinaFaceDetector
from manet.weights.registry import get
from training.data.datasets import affectnet, folders
from training.data.datasets.expression_set import DatasetError, Split
from training.data.datasets.layout import need_root

Preparable = Literal["affectnet7", "affectnet8", "caer_s"]

SIDE = 256
"""Side of a prepared face, px: room for the authors' random crops at 224."""

NOT_FOUND = "not_found.csv"

Progress = Callable[[int, int], object]
"""Takes how many images are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Job:
    """One image on its way.

    Attributes:
        source: the owners' image.
        target: where its face goes.
        area: where the owners say that the face is (left, upper, right, lower, px), or None where nobody says.
        label: the owners' number for its class, where the labels are not in folders' names.
    """

    source: Path
    target: Path
    area: tuple[int, int, int, int] | None = None
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a data set.

    Attributes:
        faces: images that were written, now or by an earlier call.
        missing: the others: an image and what was wrong with it.
    """

    faces: int
    missing: tuple[tuple[Path, str], ...]


def prepare(name: Preparable, data: Path, out: Path, *, processes: int, progress: Progress) -> Outcome:
    """Write the faces of a data set to a new folder, and ``not_found.csv`` with the images that gave none.

    CAER-S: the largest face that the service's detector finds in the frame. AffectNet: the face that the detector finds
    within the owners' box, or their box where it finds none. Each is aligned to the place that faces have in FER+.

    Args:
        name: which data set.
        data: the folder that holds it as its owners ship it.
        out: the folder to write to; what it holds from an earlier call is kept.
        processes: how many work at once.
        progress: called after each image.

    Raises:
        DatasetError: if the data set is not as its owners ship it.
        OSError: if a face cannot be written.
    """
    jobs = list(_caer_s(data, out) if name == "caer_s" else _affectnet(data, out, name))
    open_jobs = [job for job in jobs if not job.target.is_file()]
    done = len(jobs) - len(open_jobs)
    progress(done, len(jobs))
    missing: list[tuple[Path, str]] = []
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for job, complaint in zip(open_jobs, pool.map(_cut_out, open_jobs, chunksize=16), strict=True):
            done += 1
            if complaint is not None:
                missing.append((job.source, complaint))
            progress(done, len(jobs))
    atomic_write(out / NOT_FOUND, partial(_write_missing, missing))
    found = len(jobs) - len(missing)
    note = {"dataset": name, "side": SIDE, "images": len(jobs), "faces": found}
    atomic_write(out / folders.PREPARED, lambda part: part.write_text(json.dumps(note, indent=2) + "\n"))
    return Outcome(found, tuple(missing))


def _caer_s(data: Path, out: Path) -> Iterator[Job]:
    for split, place in folders.CAER_S.places.items():
        root, _ = need_root(data, folders.CAER_S.name, place)
        yield from (Job(path, out / path.relative_to(root)) for path in folders.CAER_S.read(root, split).paths)


def _affectnet(data: Path, out: Path, name: affectnet.Name) -> Iterator[Job]:
    splits: Sequence[Split] = ("train", "valid")
    for split in splits:
        whole = affectnet.load(data, split, name=name)
        if whole.areas is None:
            raise DatasetError(f"{data} holds AffectNet's faces cut out already; it needs no preparation")
        folder = out / ("train_set" if split == "train" else "val_set") / "images"
        numbers = [affectnet.OWNERS_NUMBERS.index(whole.classes[label]) for label in whole.labels]
        for path, area, number in zip(whole.paths, whole.areas, numbers, strict=True):
            yield Job(path, folder / f"{path.parent.name}_{path.stem}.jpg", area, number)


def _cut_out(job: Job) -> str | None:
    """Write one face; return what was wrong where there is none."""
    try:
        image = read_image(job.source.read_bytes(), limits=ImageLimits())
    except (ManetError, OSError) as error:
        return str(error)
    face = _the_face(_detector().detect(image), job.area)
    if face is not None:
        crop = align(image, face.landmarks, _crop(), SIDE)
    elif job.area is not None:
        crop = _box(image, job.area)
    else:
        return "no face found"
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if job.label is not None:
        notes = job.target.parent.parent / "annotations"
        notes.mkdir(exist_ok=True)
        with (notes / f"{job.target.stem}_exp.npy").open("wb") as file:
            np.save(file, np.array(job.label))
    atomic_write(job.target, lambda part: Image.fromarray(crop).save(part, format=_format(job.target), quality=95))
    return None


def _the_face(faces: Sequence[DetectedFace], area: tuple[int, int, int, int] | None) -> DetectedFace | None:
    """Return the largest face, or the largest of those whose middle lies in the owners' area."""
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
    return RetinaFaceDetector(threads=1)


@cache
def _crop() -> FaceCrop:
    crop = get("ferplus").crop
    assert crop is not None
    return crop
