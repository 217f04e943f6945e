"""Pipeline: picture files through a recognizer: decoded and searched in threads, classified in batches across pictures.

What is held at any time is bounded: a few files in the threads, and a group that is about to be classified.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from manet.bulk.walk import Found
from manet.errors import PictureError
from manet.pictures import PictureLimits, picture_bytes, read_picture
from manet.preprocess import Pixels
from manet.recognizer import FaceInput, FaceMode, RecognizedFace, Recognizer

BATCH = 32
"""Faces that the network is given at once, at most."""

_GROUP_PICTURES, _GROUP_BYTES = 64, 256 * 1024 * 1024
"""A group is classified no later than this, even if its faces fill no batch: pictures without faces, large pictures."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How each picture is looked at.

    Attributes:
        faces: whether to look for faces, or to take each picture as one.
        max_faces: the most faces to answer in a picture.
        keep_image: whether the outcome is to carry the picture itself.
        limits: the largest picture to read.
    """

    faces: FaceMode
    max_faces: int
    keep_image: bool
    limits: PictureLimits


@dataclass(frozen=True, slots=True)
class Answer:
    """What one picture shows.

    Attributes:
        file: which.
        width: of the upright picture, in pixels; ``height`` likewise.
        height: see ``width``.
        faces: the largest first.
        image: RGB, uint8 (height, width, 3), where it was to be kept.
    """

    file: Found
    width: int
    height: int
    faces: list[RecognizedFace]
    image: Pixels | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or a folder that could not be read, and why in a few words."""

    file: Found
    reason: str


Outcome = Answer | Failure


@dataclass(frozen=True, slots=True)
class Looked:
    """A picture whose faces wait for the network.

    Attributes:
        file: which.
        width: of the upright picture, in pixels; ``height`` likewise.
        height: see ``width``.
        inputs: its faces, the largest first.
        image: RGB, uint8 (height, width, 3), where it was to be kept.
    """

    file: Found
    width: int
    height: int
    inputs: list[FaceInput]
    image: Pixels | None


def answers(files: Iterable[Found], recognizer: Recognizer, look: Look, *, workers: int) -> Iterator[Outcome]:
    """Yield what became of each file, in their order.

    Args:
        files: taken one by one, a little ahead of the outcomes.
        recognizer: finds the faces and classifies them.
        look: how.
        workers: threads that decode pictures and find faces, at least 1.
    """
    # Pictures are large and their faces are not: without the pictures the threads may run a whole batch ahead.
    ahead = 2 * workers if look.keep_image else max(2 * workers, BATCH)
    with ThreadPoolExecutor(workers, thread_name_prefix="look") as pool:
        seen = _in_order(pool, lambda file: _look_at(file, recognizer, look), files, ahead)
        for group in _groups(seen):
            yield from classified(group, recognizer)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield each item's result, in order, with at most ``ahead`` of them begun or done and not taken."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _look_at(file: Found, recognizer: Recognizer, look: Look) -> Looked | Failure:
    if file.error is not None:
        return Failure(file, reason(file.error))
    try:
        data = picture_bytes(file.path, look.limits)
    except OSError as error:
        return Failure(file, reason(error))
    return looked(file, data, recognizer, look)


def looked(file: Found, data: bytes, recognizer: Recognizer, look: Look) -> Looked | Failure:
    """Return what a picture's bytes show, or why they show nothing."""
    try:
        image = read_picture(data, limits=look.limits)
    except PictureError as error:
        return Failure(file, reason(error))
    height, width = image.shape[:2]
    inputs = recognizer.find(image, faces=look.faces, max_faces=look.max_faces)
    return Looked(file, width, height, inputs, image if look.keep_image else None)


def reason(error: PictureError | OSError) -> str:
    """Return why a file could not be read, without its name."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _groups(seen: Iterable[Looked | Failure]) -> Iterator[list[Looked | Failure]]:
    """Yield what came in, in groups that fill a batch or are as large as may be held."""
    group: list[Looked | Failure] = []
    faces = size = 0
    for one in seen:
        group.append(one)
        if isinstance(one, Looked):
            faces += len(one.inputs)
            size += 0 if one.image is None else one.image.nbytes
        if faces >= BATCH or len(group) >= _GROUP_PICTURES or size >= _GROUP_BYTES:
            yield group
            group, faces, size = [], 0, 0
    if group:
        yield group


def classified(group: Sequence[Looked | Failure], recognizer: Recognizer) -> Iterator[Outcome]:
    """Yield what became of each, in order; the network is given the faces of all of them, a batch at a time."""
    inputs = [face for one in group if isinstance(one, Looked) for face in one.inputs]
    batches = (inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH))
    read = (
        recognizer.read(face, logits)
        for batch in batches
        for face, logits in zip(batch, recognizer.classify(np.stack([face.pixels for face in batch])), strict=True)
    )
    for one in group:
        if isinstance(one, Failure):
            yield one
        else:
            yield Answer(one.file, one.width, one.height, list(islice(read, len(one.inputs))), one.image)
