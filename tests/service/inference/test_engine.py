"""The network as an engine: an answer that makes no sense is a failure."""

import re
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
import pytest
import skimage.data

from manet.backends.base import Logits
from manet.vision.face_network import Candidates
from manet.vision.preprocess import Pixels
from service.inference import engine
from service.inference.batched_faces import BatchedFaceNetwork
from service.inference.engine import NetworkEngine, detects_on_device, load_recognizer
from service.settings import Settings

NO_CUDA = Settings(backend="torch", device="cpu", small_faces="off")
BATCH = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


class FakeBackend:
    """Answers what it was told to, and writes down what it was asked."""

    name, precision, device, reason = "fake", "float32", "cpu", "fake: for tests"

    def __init__(self, answer: Logits) -> None:
        self.answer = answer
        self.asked: list[Pixels] = []
        self.warmed: list[int] = []
        self.closed = 0

    def warmup(self, batch_sizes: Sequence[int]) -> Sequence[int]:
        self.warmed += batch_sizes
        return batch_sizes

    def infer(self, images: Pixels) -> Logits:
        self.asked.append(images)
        return self.answer

    def close(self) -> None:
        self.closed += 1


def test_a_sound_answer_is_handed_on_as_it_is() -> None:
    backend = FakeBackend(np.linspace(-3, 3, 14, dtype=np.float32).reshape(2, 7))

    assert NetworkEngine(backend, 7).infer(BATCH) is backend.answer
    assert backend.asked[0] is BATCH


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((1, 7), id="too few faces"),
        pytest.param((3, 7), id="too many faces"),
        pytest.param((2, 8), id="another class order"),
        pytest.param((7, 2), id="transposed"),
        pytest.param((14,), id="flat"),
        pytest.param((2, 7, 1), id="an axis too many"),
        pytest.param((0, 7), id="empty"),
    ],
)
def test_an_answer_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    engine = NetworkEngine(FakeBackend(np.zeros(shape, np.float32)), 7)

    with pytest.raises(ValueError, match=re.escape(f"shape {shape} instead of (2, 7)")):
        engine.infer(BATCH)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (1, 6)])
def test_an_answer_with_a_number_that_is_not_finite_is_refused(number: float, place: tuple[int, int]) -> None:
    answer = np.zeros((2, 7), np.float32)
    answer[place] = number
    engine = NetworkEngine(FakeBackend(answer), 7)

    with pytest.raises(ValueError, match="not finite"):
        engine.infer(BATCH)


def test_warming_up_and_closing_reach_the_backend() -> None:
    backend = FakeBackend(np.zeros((2, 7), np.float32))
    engine = NetworkEngine(backend, 7)

    engine.warmup([1, 4])
    assert (backend.warmed, backend.closed) == ([1, 4], 0)
    engine.close()
    assert backend.closed == 1


def test_where_the_network_runs_on_a_device_a_single_process_finds_faces_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not detects_on_device(NO_CUDA)
    monkeypatch.setattr(engine, "detects_on_device", lambda _settings: True)
    monkeypatch.setattr(BatchedFaceNetwork, "threads", 1)  # of the warm-up
    looked: list[int] = []
    submit = BatchedFaceNetwork.submit

    def noted(self: BatchedFaceNetwork, canvas: Pixels, least: float) -> "Future[Candidates]":
        looked.append(len(canvas))
        return submit(self, canvas, least)

    monkeypatch.setattr(BatchedFaceNetwork, "submit", noted)
    recognizer = load_recognizer(NO_CUDA)
    warm = len(looked)
    [found] = recognizer.find(skimage.data.astronaut()).faces

    assert warm == 1
    assert len(looked) == warm + 1
    assert found.face is not None
    assert 170 < found.face.box.x < 185
    recognizer.backend.close()
