"""Frames share batches, keep their order and are never many at once; faces are followed through them."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import count, islice
from pathlib import Path

import av
import pytest

from manet.batch.pipeline import DetectionOptions
from manet.recognizer import BATCH
from manet.tracking import Tracker
from manet.video.clip import Clip, Frame, Moment, Shape, Sound
from manet.video.pipeline import FrameAnswer, answers
from manet.video.records import frame_form
from manet.vision.images import ImageLimits
from testing.clips import wandering, write_clip
from testing.fakes import BLUE, RED, WEIGHTS, FakeBackend, paint, recognizer

UPRIGHT = Shape(Fraction(1), (1, 0, 0, 1))
OPTIONS = DetectionOptions(faces="detect", max_faces=9, keep_image=False, limits=ImageLimits())


def _answered(path: Path, backend: FakeBackend) -> list[FrameAnswer | Sound]:
    with Clip(path, max_pixels=10_000) as clip:
        return list(answers(clip.pieces(), recognizer(backend), OPTIONS, Tracker(), workers=2, frame_bytes=3 * 64 * 48))


def test_faces_of_many_frames_share_batches_and_are_followed(tmp_path: Path) -> None:
    backend = FakeBackend()

    found = _answered(write_clip(tmp_path / "a.mp4", wandering(40)), backend)

    assert [one.moment.number for one in found if isinstance(one, FrameAnswer)] == list(range(40))
    assert sum(backend.batches) == 60
    assert backend.batches == [BATCH, 60 - BATCH]
    tracks = [
        [(face.track, face.smoothed_face.expression) for face in one.faces]
        for one in found
        if isinstance(one, FrameAnswer)
    ]
    assert tracks == [[(1, RED)]] * 20 + [[(1, RED), (2, BLUE)]] * 20


def test_sound_keeps_its_place(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(60), sounds=("aac",))
    with Clip(path, max_pixels=10_000) as clip:
        stored = ["sound" if isinstance(one, Sound) else one.moment.number for one in clip.pieces()]

    passed = ["sound" if isinstance(one, Sound) else one.moment.number for one in _answered(path, FakeBackend())]

    assert passed == stored


@pytest.mark.parametrize("left", [(0, 0, 0), (255, 0, 0)], ids=["no face", "a face"])
def test_a_long_clip_is_not_held(left: tuple[int, int, int]) -> None:
    taken = count()

    def endless() -> Iterator[Frame]:
        for number in taken:
            decoded = av.VideoFrame.from_image(paint(left))
            yield Frame(Moment(number, number, number / 25), decoded, UPRIGHT)

    answered = answers(endless(), recognizer(), OPTIONS, Tracker(), workers=2, frame_bytes=3 * 64 * 48)
    assert len(list(islice(answered, 500))) == 500
    assert isinstance(answered, Generator)
    answered.close()

    assert next(taken) <= 500 + 64 + 2 * BATCH + 1


def test_of_large_frames_few_are_ahead() -> None:
    taken = count()

    def endless() -> Iterator[Frame]:
        for number in taken:
            yield Frame(Moment(number, number, number / 25), av.VideoFrame.from_image(paint((255, 0, 0))), UPRIGHT)

    answered = answers(endless(), recognizer(), OPTIONS, Tracker(), workers=2, frame_bytes=3 * 8000 * 5000)
    next(answered)
    assert isinstance(answered, Generator)
    answered.close()

    assert next(taken) <= BATCH + 2 * 2


def test_a_record_distinguishes_the_frame_from_the_track(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [paint((255, 0, 0))] * 5 + [paint((0, 0, 255))])
    form = frame_form(path, WEIGHTS)

    last = _answered(path, FakeBackend())[-1]

    assert isinstance(last, FrameAnswer)
    [face] = form.nested(last)["faces"]
    [row] = form.flat(last)
    assert max(face["probabilities"], key=face["probabilities"].get) == BLUE
    assert face["expression"] == row["expression"] == RED
    assert face["confidence"] == row["confidence"] == face["smoothed"][RED]
    assert row[f"smoothed_{RED}"] == face["smoothed"][RED]
    assert row[f"probability_{BLUE}"] == face["probabilities"][BLUE]
    assert (row["track"], row["time"], row["frame"]) == (1, pytest.approx(0.2), 5)
    assert set(row) == set(form.columns)
