"""Pipeline: image files through a recognizer, decoded and searched in threads, classified in batches across them."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from manet.batch.flow import classified, in_order
from manet.batch.walk import Found
from manet.errors import ImageError, VideoError
from manet.recognizer import BATCH, FaceInput, FaceMode, ImageFaces, RecognizedFace, Recognizer
from manet.vision.images import ImageLimits, image_bytes, read_scaled
from manet.vision.preprocess import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionOptions:
    """How faces are detected in each image.

    Attributes:
        faces: whether to detect faces, or to take each image as one.
        max_faces: the most faces to answer in an image.
        keep_image: whether the outcome is to carry the image itself.
        limits: the largest image to read.
    """

    faces: FaceMode
    max_faces: int
    keep_image: bool
    limits: ImageLimits


@dataclass(frozen=True, slots=True)
class Answer(ImageFaces[RecognizedFace]):
    """What one image shows.

    Attributes:
        file: which.
        image: RGB, uint8 (height, width, 3), where it was to be kept.
    """

    file: Found
    image: Pixels | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or a folder that could not be read, and why in a few words; without faces or an image."""

    file: Found
    reason: str
    faces: ClassVar[Sequence[FaceInput]] = ()
    image: ClassVar[None] = None


Outcome = Answer | Failure


@dataclass(frozen=True, slots=True)
class DetectedImage(ImageFaces[FaceInput]):
    """An image whose faces wait for the network.

    Attributes:
        file: which.
        image: RGB, uint8 (height, width, 3), where it was to be kept.
    """

    file: Found
    image: Pixels | None


def answers(
    files: Iterable[Found], recognizer: Recognizer, options: DetectionOptions, *, workers: int
) -> Iterator[Outcome]:
    """Yield what became of each file, in their order.

    Args:
        files: taken one by one, a little ahead of the outcomes.
        recognizer: finds the faces and classifies them.
        options: how.
        workers: threads that decode images and find faces, at least 1.
    """
    # Images are large and their faces are not: without the images the threads may run a whole batch ahead.
    ahead = 2 * workers if options.keep_image else max(2 * workers, BATCH)
    with ThreadPoolExecutor(workers, thread_name_prefix="detect") as pool:
        seen = in_order(pool, lambda file: _read_and_detect(file, recognizer, options), files, ahead)
        yield from outcomes(seen, recognizer)


def outcomes(seen: Iterable[DetectedImage | Failure], recognizer: Recognizer) -> Iterator[Outcome]:
    """Yield what became of each image, in order, with its faces classified."""
    for one, faces in classified(seen, recognizer):
        yield (
            one
            if isinstance(one, Failure)
            else Answer(one.width, one.height, faces, one.faces_total, one.file, one.image)
        )


def _read_and_detect(file: Found, recognizer: Recognizer, options: DetectionOptions) -> DetectedImage | Failure:
    if file.error is not None:
        return Failure(file, reason(file.error))
    try:
        data = image_bytes(file.path, options.limits)
    except OSError as error:
        return Failure(file, reason(error))
    return detect_in(file, data, recognizer, options)


def detect_in(file: Found, data: bytes, recognizer: Recognizer, options: DetectionOptions) -> DetectedImage | Failure:
    """Return what an image's bytes show, or why they show nothing."""
    try:
        image = read_scaled(data, limits=options.limits)
        found = recognizer.find(image, faces=options.faces, max_faces=options.max_faces)
        kept = image.whole() if options.keep_image else None
    except ImageError as error:
        return Failure(file, reason(error))
    return DetectedImage(found.width, found.height, found.faces, found.faces_total, file, kept)


def reason(error: ImageError | VideoError | OSError) -> str:
    """Return why a file could not be read, without its name."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
