"""Pipeline: a clip's frames through a recognizer: searched in threads, classified in batches across them, followed.

What is held at any time is bounded, however long the clip is: some frames in the threads, and a group that is about to
be classified.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from manet.batch.flow import classified, in_order
from manet.batch.pipeline import DetectionOptions
from manet.recognizer import BATCH, FaceInput, ImageFaces, Recognizer
from manet.tracking import FollowedFace, Tracker
from manet.video.clip import Frame, Moment, Sound
from manet.vision.preprocess import Pixels

_AHEAD_BYTES = 128 * 1024 * 1024
"""Of the frames that the threads may be ahead, at most; and so that no thread idles, at least two for each."""


@dataclass(frozen=True, slots=True)
class FrameAnswer(ImageFaces[FollowedFace]):
    """What one frame of a clip shows.

    Attributes:
        moment: which frame, and when it is shown.
        image: RGB, uint8 (height, width, 3), where it was to be kept.
    """

    moment: Moment
    image: Pixels | None


@dataclass(frozen=True, slots=True)
class _DetectedFrame(ImageFaces[FaceInput]):
    """A frame whose faces wait for the network."""

    moment: Moment
    image: Pixels | None


@dataclass(frozen=True, slots=True)
class _WaitingSound:
    """Sound, which passes between the frames so that the two stay beside each other."""

    sound: Sound
    faces: ClassVar[Sequence[FaceInput]] = ()
    image: ClassVar[None] = None


def answers(
    pieces: Iterable[Frame | Sound],
    recognizer: Recognizer,
    options: DetectionOptions,
    tracker: Tracker,
    *,
    workers: int,
    frame_bytes: int,
) -> Iterator[FrameAnswer | Sound]:
    """Yield what each frame of a clip shows, and the sound between them as it is, in their order.

    Args:
        pieces: taken one by one, some ahead of the answers.
        recognizer: finds the faces and classifies them.
        options: how; its limits are the clip's own.
        tracker: follows the faces.
        workers: threads that find faces, at least 1.
        frame_bytes: how large a frame is, in RGB.
    """
    ahead = max(2 * workers, min(2 * BATCH, _AHEAD_BYTES // frame_bytes))
    with ThreadPoolExecutor(workers, thread_name_prefix="detect") as pool:
        detected = in_order(pool, lambda piece: _detect_in(piece, recognizer, options), pieces, ahead)
        for one, faces in classified(detected, recognizer):
            if isinstance(one, _WaitingSound):
                yield one.sound
                continue
            followed = tracker.follow(faces, one.moment.time)
            yield FrameAnswer(one.width, one.height, followed, one.faces_total, one.moment, one.image)


def _detect_in(
    piece: Frame | Sound, recognizer: Recognizer, options: DetectionOptions
) -> _DetectedFrame | _WaitingSound:
    if isinstance(piece, Sound):
        return _WaitingSound(piece)
    image = piece.pixels()
    found = recognizer.find(image, faces=options.faces, max_faces=options.max_faces)
    kept = image if options.keep_image else None
    return _DetectedFrame(found.width, found.height, found.faces, found.faces_total, piece.moment, kept)
