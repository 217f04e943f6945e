"""Canvases of many threads in batches: which meet, who fails alone, and that no one waits for a thread that is gone."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import skimage.data
import torch

from manet.backends.torch_face_network import TorchFaceNetwork
from manet.vision.face_network import Candidates
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import RetinaFaceDetector
from service.concurrency import Workers
from service.inference.batched_faces import BatchedFaceNetwork
from testing.live import until

POISON = 200


class FakeNetwork:
    """Sees in each canvas one candidate, whose place is the canvas's first byte; a test can hold and break it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()

    def batch(self, canvases: Sequence[Pixels], least: float) -> list[Candidates]:
        firsts = [int(canvas[0, 0, 0]) for canvas in canvases]
        self.batches.append(firsts)
        assert self.gate.wait(20)
        if self.broken or POISON in firsts:
            raise RuntimeError("out of order")
        return [
            Candidates(np.array([first]), *(np.full((1, *more), least, np.float32) for more in ((), (4,), (10,))))
            for first in firsts
        ]


@pytest.fixture
def fake() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def network(fake: FakeNetwork) -> Iterator[BatchedFaceNetwork]:
    made = BatchedFaceNetwork(fake, timeout=20)
    yield made
    fake.gate.set()
    made.close()


def canvas(first: int, side: int = 160, width: int | None = None) -> Pixels:
    return np.full((side, width or side, 3), first, np.uint8)


def _held(network: BatchedFaceNetwork, fake: FakeNetwork) -> Future[Candidates]:
    """Return what came of a canvas that the network is at, and is held at."""
    fake.gate.clear()
    outcome = network.submit(canvas(99), 0.5)
    until(lambda: network.running is not None)
    return outcome


def _places(outcomes: Sequence[Future[Candidates]]) -> list[int]:
    return [int(outcome.result(20).places[0]) for outcome in outcomes]


def test_what_waits_goes_in_batches_of_one_shape_and_score_the_oldest_first(
    network: BatchedFaceNetwork, fake: FakeNetwork
) -> None:
    first = _held(network, fake)
    looks = [(0, 160, 0.8), (1, 288, 0.8), (2, 160, 0.8), (3, 160, 0.5), (4, 288, 0.8), (5, 160, 0.8)]
    outcomes = [network.submit(canvas(place, side), least) for place, side, least in looks]
    fake.gate.set()

    assert _places([first, *outcomes]) == [99, 0, 1, 2, 3, 4, 5]
    assert fake.batches == [[99], [0, 2, 5], [1, 4], [3]]
    assert network.running is None


def test_batches_are_bounded_by_canvases_and_by_pixels(network: BatchedFaceNetwork, fake: FakeNetwork) -> None:
    first = _held(network, fake)
    small = [network.submit(canvas(0), 0.5) for _ in range(20)]
    large = [network.submit(canvas(1, 1600, 3200), 0.5) for _ in range(3)]
    huge = network.submit(canvas(2, 3200, 6400), 0.5)
    fake.gate.set()

    _places([first, *small, *large, huge])
    assert [len(batch) for batch in fake.batches] == [1, 16, 4, 2, 1, 1]


def test_one_canvas_that_it_fails_on_fails_alone(network: BatchedFaceNetwork, fake: FakeNetwork) -> None:
    first = _held(network, fake)
    others = [network.submit(canvas(place), 0.5) for place in (1, POISON, 3)]
    fake.gate.set()

    assert _places([first, others[0], others[2]]) == [99, 1, 3]
    with pytest.raises(RuntimeError, match="out of order"):
        others[1].result(20)
    assert fake.batches == [[99], [1, POISON, 3], [1], [POISON], [0], [3]], "after a failure alone a blank one is tried"
    assert not network.failing


def test_a_network_that_fails_on_all_is_known_to_until_it_answers(
    network: BatchedFaceNetwork, fake: FakeNetwork
) -> None:
    fake.broken = True
    with pytest.raises(RuntimeError, match="out of order"):
        network.candidates(canvas(1), 0.5)
    assert network.failing

    fake.broken = False
    assert network.candidates(canvas(1), 0.5).places == [1]
    assert not network.failing


def test_a_caller_waits_no_longer_than_the_timeout_and_leaves_nothing_behind(fake: FakeNetwork) -> None:
    network = BatchedFaceNetwork(fake, timeout=0.2)
    first = _held(network, fake)
    with pytest.raises(RuntimeError, match=r"did not return within 0\.2 s"):
        network.candidates(canvas(1), 0.5)
    fake.gate.set()

    first.result(20)
    assert network.candidates(canvas(2), 0.5).places == [2]
    assert fake.batches == [[99], [2]]
    network.close()


@pytest.mark.anyio
async def test_a_canvas_whose_caller_has_left_is_not_searched(network: BatchedFaceNetwork, fake: FakeNetwork) -> None:
    first, workers = _held(network, fake), Workers(2, "image")
    staying, leaving = (workers.run(partial(network.candidates, canvas(place), 0.5)) for place in (1, 2))
    async with asyncio.timeout(20):
        while len(network._waiting) < 2:
            await asyncio.sleep(0.005)
        leaving.cancel()
        await workers.run(lambda: None)  # in the worker of the one that left
        fake.gate.set()

        assert (await staying).places == [1]
    assert _places([first]) == [99]
    assert fake.batches == [[99], [1]]
    workers.close()


def test_once_closed_what_waits_and_what_comes_fails(network: BatchedFaceNetwork, fake: FakeNetwork) -> None:
    running = _held(network, fake)
    waiting = network.submit(canvas(1), 0.5)
    network.close()
    fake.gate.set()

    assert _places([running]) == [99]
    with pytest.raises(RuntimeError, match="has ended"):
        waiting.result(20)
    with pytest.raises(RuntimeError, match="has ended"):
        network.candidates(canvas(2), 0.5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_leaves_no_one_waiting(fake: FakeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_canvases: Sequence[Pixels], _least: float) -> list[Candidates]:
        time.sleep(0.1)
        raise SystemExit

    before = set(threading.enumerate())
    network = BatchedFaceNetwork(fake, timeout=20)
    [thread] = set(threading.enumerate()) - before
    monkeypatch.setattr(fake, "batch", die)
    outcomes = [network.submit(canvas(place), 0.5) for place in range(2)]

    for outcome in outcomes:
        with pytest.raises(RuntimeError, match="has ended"):
            outcome.result(20)
    with pytest.raises(RuntimeError, match="has ended"):
        network.candidates(canvas(2), 0.5)
    thread.join(20)  # or its end might come in another test


def test_faces_that_many_threads_look_for_are_those_found_alone() -> None:
    portrait = skimage.data.astronaut()
    images = [np.ascontiguousarray(portrait[:, shift : shift + 300]) for shift in (60, 80, 100, 120)]
    network = BatchedFaceNetwork(TorchFaceNetwork(torch.device("cpu"), half=False), timeout=60)
    detector = RetinaFaceDetector(network, sides=(320,))
    alone = [detector.detect(image) for image in images]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(detector.detect, images))
    network.close()

    for [found], [wanted] in zip(together, alone, strict=True):
        assert found.confidence == pytest.approx(wanted.confidence, abs=1e-4)
        assert found.box.x == pytest.approx(wanted.box.x, abs=0.05)
