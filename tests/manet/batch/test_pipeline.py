"""Batches across images, in order, with a bound on what is held."""

import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest

from manet import recognizer
from manet.batch import flow
from manet.batch.pipeline import Answer, DetectionOptions, Failure, Outcome, answers
from manet.batch.walk import Found
from manet.recognizer import BATCH, RecognizedFace, Recognizer
from manet.vision.faces import DetectedFace
from manet.vision.images import ImageLimits
from manet.vision.preprocess import Pixels
from testing.fakes import BLUE, GREEN, RED, WEIGHTS, FakeBackend, FakeDetector, paint

OPTIONS = DetectionOptions(faces="detect", max_faces=9, keep_image=False, limits=ImageLimits(max_bytes=10_000))
KEEPING = DetectionOptions(faces="detect", max_faces=9, keep_image=True, limits=ImageLimits())
COLOURS = {RED: (255, 0, 0), GREEN: (0, 255, 0), BLUE: (0, 0, 255)}


def _run(
    files: list[Path], backend: FakeBackend | None = None, options: DetectionOptions = OPTIONS, workers: int = 3
) -> list[Outcome]:
    recognizer = Recognizer(WEIGHTS, backend or FakeBackend(), FakeDetector())
    return list(answers(map(Found, files), recognizer, options, workers=workers))


@pytest.fixture
def hundred(tmp_path: Path) -> list[Path]:
    """A hundred images of one face each; their colours tell them apart."""
    files = [tmp_path / f"{number:03}.png" for number in range(100)]
    for number, path in enumerate(files):
        paint(list(COLOURS.values())[number % 3]).save(path)
    return files


def test_faces_of_many_images_share_batches_and_the_answers_keep_their_order(hundred: list[Path]) -> None:
    backend = FakeBackend()

    outcomes = _run(hundred, backend)

    assert [outcome.file.path for outcome in outcomes] == hundred
    shown = [face.expression for one in outcomes if isinstance(one, Answer) for face in one.faces]
    assert shown == [list(COLOURS)[number % 3] for number in range(100)]
    assert backend.batches == [BATCH, BATCH, BATCH, 100 - 3 * BATCH]


def test_the_answers_are_those_of_one_image_after_the_other(hundred: list[Path]) -> None:
    recognizer = Recognizer(WEIGHTS, FakeBackend(), FakeDetector())
    [one] = answers([Found(hundred[4])], recognizer, KEEPING, workers=1)

    assert isinstance(one, Answer)
    assert one.image is not None
    assert one.faces == recognizer.recognize(one.image)
    assert (one.width, one.height) == (64, 48)


def test_what_cannot_be_read_fails_alone_in_its_place(hundred: list[Path], tmp_path: Path) -> None:
    hundred[1].write_bytes(b"no image")
    hundred[2].unlink()
    hundred[3].write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20_000))

    outcomes = _run(hundred[:5])

    assert [type(one) for one in outcomes] == [Answer, Failure, Failure, Failure, Answer]
    reasons = [one.reason for one in outcomes if isinstance(one, Failure)]
    assert reasons[0].startswith("unsupported image format")
    assert reasons[1] == "No such file or directory"
    assert reasons[2] == "the image has 10001 bytes; at most 10000 are read"


def test_images_without_faces_do_not_pile_up(tmp_path: Path) -> None:
    paint((0, 0, 0)).save(tmp_path / "dark.png")
    taken: list[int] = []

    def endless() -> Iterator[Found]:
        while True:
            taken.append(1)
            yield Found(tmp_path / "dark.png")

    outcomes = answers(endless(), Recognizer(WEIGHTS, FakeBackend(), FakeDetector()), OPTIONS, workers=2)
    for _ in range(200):
        assert isinstance(next(outcomes), Answer)
    assert isinstance(outcomes, Generator)
    outcomes.close()

    assert len(taken) <= 200 + 64 + 2 * BATCH


def test_large_images_that_are_kept_are_few(hundred: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "GROUP_BYTES", 5 * 64 * 48 * 3)
    backend = FakeBackend()

    _run(hundred[:20], backend, KEEPING)

    assert backend.batches == [5, 5, 5, 5]


def test_images_are_looked_at_side_by_side(hundred: list[Path]) -> None:
    both = threading.Barrier(2, timeout=20)

    class Waiting(FakeDetector):
        def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
            both.wait()
            return super().detect(image, small_faces=small_faces)

    outcomes = answers(map(Found, hundred[:4]), Recognizer(WEIGHTS, FakeBackend(), Waiting()), OPTIONS, workers=2)

    assert len(list(outcomes)) == 4


def test_an_engine_that_fails_ends_the_work(hundred: list[Path]) -> None:
    backend = FakeBackend()
    backend.broken = True

    with pytest.raises(RuntimeError, match="out of order"):
        _run(hundred[:3], backend)


def test_more_faces_than_a_batch_holds(hundred: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (flow, recognizer):
        monkeypatch.setattr(room, "BATCH", 3)
    backend = FakeBackend()
    for path in hundred[:2]:
        paint((255, 0, 0), (0, 0, 255)).save(path)

    outcomes = _run(hundred[:2], backend)

    assert [len(one.faces) for one in outcomes if isinstance(one, Answer)] == [2, 2]
    assert backend.batches == [3, 1]
    [_, second] = [one for one in outcomes if isinstance(one, Answer)]
    assert isinstance(second.faces[1], RecognizedFace)
    assert np.isclose(sum(second.faces[1].probabilities.values()), 1)
