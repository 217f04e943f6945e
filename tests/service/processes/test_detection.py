"""Faces found in the engine's process, in real processes: the same answers, batches, and what a lost process takes."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import skimage.data
from PIL import Image

from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.vision.retinaface import RetinaFaceDetector
from service.inference.batched_faces import BatchedFaceNetwork
from testing.fakes import NO_FACE, RED, RED_FACE, encode, make_app, paint, running
from testing.front_ends import (
    BREAK_FACES,
    HOLD_FACES,
    SLOW,
    FakeFaceNetwork,
    FrontEnds,
    serving_with_front_ends,
)
from testing.live import until
from testing.processes import sending

pytestmark = pytest.mark.slow

POISONED = encode(paint((200, 0, 0)))
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("/predict", {"files": {"image": ("x", RED_FACE)}}),
    ("/predict?faces=small", {"files": {"image": ("x", RED_FACE)}}),
    ("/predict?faces=whole", {"files": {"image": ("x", RED_FACE)}}),
    ("/predict", {"files": {"image": ("x", NO_FACE)}}),
    ("/predict", {"files": {"image": ("x", b"no image")}}),
    ("/predict/batch", {"files": [("images", ("x", data)) for data in (RED_FACE, NO_FACE, b"no image")]}),
]


def statuses(answers: "list[Future[httpx.Response]]") -> list[int]:
    """Return the statuses of answers that were waited for, 0 where the connection was lost."""
    lost = [isinstance(answer.exception(), httpx.TransportError) for answer in answers]
    return [0 if gone else answer.result().status_code for gone, answer in zip(lost, answers, strict=True)]


def all_well(service: FrontEnds, count: int = 8) -> bool:
    return [service.status() for _ in range(count)] == [200] * count


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def held(service: FrontEnds, clients: ThreadPoolExecutor, count: int, *others: bytes) -> "list[Future[httpx.Response]]":
    """Return requests whose canvases are in the engine's process: the first in the network, the others behind it."""
    service.touch(HOLD_FACES)
    before = len(service.batches)
    answers = [clients.submit(service.post)]
    until(lambda: len(service.batches) == before + 1)
    answers += [clients.submit(service.post, data) for data in (*[RED_FACE] * (count - 1), *others)]
    service.wait_for("manet_images_in_flight", count + len(others))
    return answers


def test_answers_are_byte_for_byte_those_of_a_single_process(tmp_path: Path) -> None:
    async def single() -> list[tuple[int, bytes]]:
        network = BatchedFaceNetwork(FakeFaceNetwork(tmp_path), timeout=60)
        async with running(make_app(detector=RetinaFaceDetector(network), explain=False)) as client:
            answers = [await client.post(path, **options) for path, options in QUESTIONS]
        network.close()
        return [(answer.status_code, answer.content) for answer in answers]

    expected = asyncio.run(single())
    assert [status for status, _ in expected] == [200, 200, 200, 200, 415, 200]
    with serving_with_front_ends(tmp_path, faces="fake") as service:
        with httpx.Client(base_url=service.address) as one, httpx.Client(base_url=service.address) as other:
            for client in (one, other):  # a connection each, and so a front end each
                answers = [client.post(path, **options) for path, options in QUESTIONS]
                assert [(answer.status_code, answer.content) for answer in answers] == expected
        assert service.metric("manet_detections_failed") == 0
        assert service.stop() == 0


def test_the_network_in_pytorch_finds_there_what_openvino_finds_in_a_front_end(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    portrait = skimage.data.astronaut()
    [wanted] = RetinaFaceDetector(OpenVinoFaceNetwork(threads=1)).detect(portrait)
    photo = encode(Image.fromarray(portrait))
    with serving_with_front_ends(tmp_path, faces="torch", deadline=60) as service:
        answers = [clients.submit(service.post, photo) for _ in range(4)]
        for answer in answers:
            [face] = answer.result().json()["faces"]
            assert face["detection_confidence"] == pytest.approx(wanted.confidence, abs=1e-3)
            for name in ("x", "y", "width", "height"):
                assert face["box"][name] == pytest.approx(getattr(wanted.box, name), abs=0.1)
        assert service.stop() == 0


def test_canvases_of_all_front_ends_meet_in_batches_and_one_that_fails_fails_alone(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with serving_with_front_ends(tmp_path, faces="fake", workers=4) as service:
        answers = held(service, clients, 7, POISONED)
        service.remove(HOLD_FACES)

        assert statuses(answers) == [*[200] * 7, 500]
        assert [answer.json()["faces"][0]["expression"] for answer in map(Future.result, answers[:7])] == [RED] * 7
        assert max(service.batches) > 2
        service.wait_for("manet_detections_failed", 1)  # front ends tell ten times a second
        service.wait_for("manet_detector_ready", 1)
        assert len(service.pids("engine")) == 1


def test_a_killed_engine_is_503_at_once_and_200_again_from_a_new_process(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with serving_with_front_ends(tmp_path, faces="fake") as service:
        answers = held(service, clients, 8)
        service.touch(SLOW)  # until it goes, there is no engine
        os.kill(service.pids("engine")[-1], signal.SIGKILL)

        assert statuses(answers) == [503] * 8
        for answer in map(Future.result, answers):
            assert answer is not None
            assert answer.json()["type"] == "urn:manet:problem:not-ready"
            assert answer.headers["retry-after"] == "1"
        service.remove(HOLD_FACES)
        service.remove(SLOW)
        until(service.ready, 60)
        until(lambda: all_well(service), 60)
        assert len(set(service.pids("engine"))) == 2
        assert service.metric("manet_images_in_flight") == service.metric("manet_detections_failed") == 0


def test_a_network_that_hangs_or_fails_on_everything_is_replaced_with_its_process(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with serving_with_front_ends(tmp_path, faces="fake", engine_timeout=10, deadline=60) as service:
        answers = held(service, clients, 2)
        assert statuses(answers) == [503] * 2
        service.remove(HOLD_FACES)
        until(lambda: all_well(service), 60)
        assert len(set(service.pids("engine"))) == 2

        service.touch(BREAK_FACES)
        assert service.post().status_code in {500, 503}
        until(lambda: len(set(service.pids("engine"))) > 2, 60)
        service.remove(BREAK_FACES)
        until(lambda: all_well(service), 60)


def test_a_killed_front_end_loses_its_own_connections_only_and_its_slots_come_back(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with serving_with_front_ends(tmp_path, faces="fake", workers=2) as service:
        answers = held(service, clients, 8)
        os.kill(service.pids("front end 0")[-1], signal.SIGKILL)
        until(lambda: service.text.count("front end 0 is up") == 2, 60)
        service.remove(HOLD_FACES)

        assert set(Counter(statuses(answers))) == {0, 200}, "some were on either front end"
        assert all_well(service, 20), "its slots are free again"
        assert len(service.pids("front end 1")) == len(service.pids("engine")) == 1


def test_images_whose_clients_have_left_are_not_searched(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    with serving_with_front_ends(tmp_path, faces="fake", workers=2) as service:
        answers = held(service, clients, 1)
        leaving = [sending(service.address, RED_FACE) for _ in range(6)]
        service.wait_for("manet_images_in_flight", 7)
        for connection in leaving:
            connection.close()
        service.wait_for("manet_images_in_flight", 1)
        answers.append(clients.submit(service.post))
        service.wait_for("manet_images_in_flight", 2)
        service.remove(HOLD_FACES)

        assert statuses(answers) == [200] * 2
        assert service.batches == [1, 1]
        assert all_well(service)
        assert service.metric("manet_detections_failed") == 0


def test_sigterm_answers_all_that_was_admitted(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    with serving_with_front_ends(tmp_path, faces="fake", workers=2) as service:
        answers = held(service, clients, 12)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: "Shutting down" in service.text)
        service.remove(HOLD_FACES)

        assert statuses(answers) == [200] * 12
        assert service.process.wait(60) == 0


def test_a_second_signal_does_not_wait_for_canvases(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    with serving_with_front_ends(tmp_path, faces="fake") as service:
        answers = held(service, clients, 4)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: "Shutting down" in service.text)
        service.process.send_signal(signal.SIGTERM)

        assert service.process.wait(60) == 0
        assert set(statuses(answers)) <= {0, 503}
