"""Two front ends and one engine's process: together they answer, refuse, count and report like a single process."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from testing.fakes import NO_FACE, RED, RED_FACE, encode, make_app, paint, running
from testing.front_ends import HOLD, POISON, FrontEnds, serving_with_front_ends
from testing.live import until
from testing.processes import ROOT, sending
from tests.service.observability.test_tracing import Collector

pytestmark = pytest.mark.slow

TWO_FACES = encode(paint((255, 0, 0), (0, 255, 0)))
POISONED = encode(paint((200, 0, 0)))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontEnds]:
    """A service with small bounds that no test kills."""
    bounds: dict[str, Any] = {
        "max_inflight_images": 8,
        "max_queued_faces": 6,
        "max_batch_size": 4,
        "engine_timeout": 120,
    }
    with serving_with_front_ends(tmp_path_factory.mktemp("touched"), **bounds) as service:
        yield service


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


QUESTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/predict", {"files": {"image": ("x", RED_FACE)}}),
    ("POST", "/predict?faces=whole", {"files": {"image": ("x", TWO_FACES)}}),
    ("POST", "/predict", {"files": {"image": ("x", NO_FACE)}}),
    ("POST", "/predict", {"files": {"image": ("x", b"no image")}}),
    ("POST", "/predict/batch", {"files": [("images", ("x", data)) for data in (RED_FACE, b"no image", TWO_FACES)]}),
    ("GET", "/model", {}),
    ("GET", "/v2/models/ferplus", {}),
    ("GET", "/health/ready", {}),
    ("GET", "/nowhere", {}),
]


def test_answers_are_byte_for_byte_those_of_a_single_process(service: FrontEnds) -> None:
    async def single() -> list[tuple[int, bytes]]:
        async with running(make_app(explain=False)) as client:
            answers = [await client.request(method, path, **options) for method, path, options in QUESTIONS]
            return [(answer.status_code, answer.content) for answer in answers]

    expected = asyncio.run(single())
    with httpx.Client(base_url=service.address) as one, httpx.Client(base_url=service.address) as other:
        for client in (one, other):  # a connection each, and so a front end each
            answers = [client.request(method, path, **options) for method, path, options in QUESTIONS]
            assert [(answer.status_code, answer.content) for answer in answers] == expected


def test_a_poisoned_image_fails_alone(service: FrontEnds, clients: ThreadPoolExecutor) -> None:
    service.touch(HOLD)
    first = clients.submit(service.post)
    service.wait_for("manet_images_in_flight", 1)
    others = [clients.submit(service.post, POISONED if k == 1 else RED_FACE) for k in range(4)]
    service.wait_for("manet_queue_depth", 4)
    service.touch(POISON)
    service.remove(HOLD)

    assert first.result().status_code == 200
    assert [answer.result().status_code for answer in others] == [200, 500, 200, 200]
    service.remove(POISON)


def test_no_more_images_are_admitted_than_the_bound_over_all_front_ends(
    service: FrontEnds, clients: ThreadPoolExecutor
) -> None:
    service.touch(HOLD)
    sent: list[Future[httpx.Response]] = []

    def full() -> bool:
        if service.metric("manet_images_in_flight") < 8:  # two front ends may refuse each other the last place
            sent.append(clients.submit(service.post))
        return service.metric("manet_images_in_flight") == 8

    until(full, 60)
    refused = Counter(service.post().status_code for _ in range(12))
    service.remove(HOLD)
    answers = Counter(answer.result().status_code for answer in sent)

    assert refused == {429: 12}
    assert answers[200] == 8
    assert set(answers) <= {200, 429}
    service.wait_for("manet_images_in_flight", 0)


def test_connections_are_spread_evenly(service: FrontEnds) -> None:
    pids = [service.pids(f"front end {number}")[-1] for number in (0, 1)]
    host, port = service.address.removeprefix("http://").split(":")
    until(lambda: len({_sockets(pid) for pid in pids}) == 1)  # those of earlier clients are closed
    own = _sockets(pids[0])
    opened = [socket.create_connection((host, int(port))) for _ in range(20)]
    try:
        until(lambda: [_sockets(pid) - own for pid in pids] == [10, 10])
    finally:
        for connection in opened:
            connection.close()


def _sockets(pid: int) -> int:
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return sum(link.startswith("socket:") for link in links)


def test_metrics_are_of_the_whole_service_whichever_front_end_is_asked(service: FrontEnds) -> None:
    name = 'manet_requests_total{route="/predict",status="200"}'
    service.post()
    before = service.metric(name)
    for _ in range(5):
        assert service.post().json()["faces"][0]["expression"] == RED

    assert {service.metric(name) for _ in range(4)} == {before + 5}
    assert {service.metric("manet_batch_size_count") for _ in range(2)} == {service.metric("manet_batch_size_count")}


def test_what_a_request_leaves_behind_is_as_before(tmp_path: Path) -> None:
    """The access log without queries, request ids, traces, streams."""
    collector = Collector()
    with serving_with_front_ends(tmp_path, access_log=True, otlp_endpoint=collector.url) as service:
        for _ in range(2):
            answer = httpx.post(
                f"{service.address}/predict?faces=whole",
                files={"image": ("x", RED_FACE)},
                headers={"X-Request-ID": "a-name-of-my-own"},
            )
            assert answer.headers["x-request-id"] == "a-name-of-my-own"
        address = f"{service.address.replace('http', 'ws')}/stream"
        with connect(address, compression=None) as one, connect(address, compression=None) as other:
            for stream in (one, other):
                stream.send(RED_FACE)
                assert json.loads(stream.recv(timeout=20))["faces"][0]["expression"] == RED
            assert service.metric("manet_streams") == 2
        service.wait_for("manet_streams", 0)
        assert service.stop() == 0

    assert service.text.count('"POST /predict HTTP/1.1" 200') == 2
    names = Counter(span.name for span in collector.spans)
    assert (names["POST /predict"], names["find"], names["queue"], names["infer"]) == (2, 4, 4, 4)
    collector.stop()


def test_explanations_are_made_in_one_process_which_is_restarted(tmp_path: Path) -> None:
    async def single() -> bytes:
        async with running(make_app(deadline=300)) as client:
            return (await client.post("/explain", files={"image": ("x", RED_FACE)}, timeout=300)).content

    expected = asyncio.run(single())
    with serving_with_front_ends(tmp_path, explain=True, deadline=300) as service:

        def explain() -> httpx.Response:
            return httpx.post(f"{service.address}/explain", files={"image": ("x", RED_FACE)}, timeout=300)

        until(lambda: explain().status_code == 200, 120)  # its process may be up a little later
        assert [explain().content for _ in range(2)] == [expected] * 2
        assert _loads_torch(service.pids("explainer")[0])
        assert not any(_loads_torch(service.pids(name)[0]) for name in ("front end 0", "front end 1", "engine"))
        os.kill(service.pids("explainer")[0], signal.SIGKILL)
        answers = [explain()]
        while answers[-1].status_code != 200:
            answers.append(explain())
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)
        assert len(service.pids("explainer")) == 2
        assert service.post().status_code == 200
        assert service.stop() == 0


def _loads_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def test_only_front_ends_load_the_web_framework_and_a_single_process_nothing_of_this() -> None:
    program = "import sys, {}; print(sorted({{'fastapi', 'service.processes'}} & set(sys.modules)))"
    for module, loaded in (
        ("service.processes.supervisor", "service.processes"),
        ("service.__main__, service.app", "fastapi"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program.format(module)], cwd=ROOT, check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == f"['{loaded}']"


def test_queued_faces_are_bounded_over_all_front_ends(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    with serving_with_front_ends(tmp_path, max_queued_faces=4, max_batch_size=1) as service:
        service.touch(HOLD)
        first = clients.submit(service.post)
        service.wait_for("manet_queue_seconds_count", 1)  # it is in the network
        answers = [clients.submit(service.post) for _ in range(15)]
        until(lambda: sum(answer.done() for answer in answers) == 10)  # one is prepared, four wait
        service.remove(HOLD)

        assert first.result().status_code == 200
        assert Counter(answer.result().status_code for answer in answers) == {200: 5, 429: 10}


def test_bytes_in_memory_are_bounded_over_all_front_ends(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    size = len(RED_FACE) + 1000  # of an upload, at most
    with serving_with_front_ends(tmp_path, max_bytes_in_flight=4 * size) as service:
        service.touch(HOLD)
        answers = [clients.submit(service.post) for _ in range(40)]
        until(lambda: sum(answer.done() for answer in answers) > 10)
        assert service.metric("manet_upload_bytes") <= 4 * size
        service.remove(HOLD)
        statuses = Counter(answer.result().status_code for answer in answers)

        assert set(statuses) == {200, 429}
        service.wait_for("manet_upload_bytes", 0)


def test_a_deadline_that_passes_in_the_queue_is_504(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    with serving_with_front_ends(tmp_path, deadline=0.5, max_batch_size=1) as service:
        service.touch(HOLD)
        first = clients.submit(service.post)
        service.wait_for("manet_queue_seconds_count", 1)
        late = [clients.submit(service.post) for _ in range(3)]
        until(lambda: service.metric("manet_queue_depth") + sum(answer.done() for answer in late) == 3)
        time.sleep(0.6)
        service.remove(HOLD)

        assert first.result().status_code == 200
        assert {answer.result().status_code for answer in late} <= {504, 429}
        assert service.metric("manet_batch_size_count") == 1


def test_cancelled_requests_leave_the_queue_and_give_back_their_slots(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with serving_with_front_ends(tmp_path, max_queued_faces=4, max_batch_size=1) as service:  # six slots each
        service.touch(HOLD)
        first = clients.submit(service.post)
        service.wait_for("manet_queue_seconds_count", 1)
        for _ in range(10):
            for leaving in [_leaving(service) for _ in range(2)]:
                leaving.close()
            service.wait_for("manet_queue_depth", 0)
        service.wait_for("manet_images_in_flight", 1)
        service.remove(HOLD)

        assert first.result().status_code == 200
        assert service.metric("manet_batch_size_count") == 1
        assert [service.post().status_code for _ in range(12)] == [200] * 12


def _leaving(service: FrontEnds) -> socket.socket:
    """Return a connection on which a request waits in the queue."""
    depth = service.metric("manet_queue_depth")
    leaving = sending(service.address, RED_FACE)
    service.wait_for("manet_queue_depth", depth + 1)
    return leaving


def test_limits_of_a_client_hold_for_the_whole_service(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    keys = ["a" * 16, "b" * 16]

    def send(service: FrontEnds, key: str) -> int:
        headers = {"X-API-Key": key}
        return httpx.post(
            f"{service.address}/predict", files={"image": ("x", RED_FACE)}, headers=headers, timeout=60
        ).status_code

    with serving_with_front_ends(tmp_path, api_keys=keys, rate_limit="10/day", max_client_requests=3) as service:
        assert Counter(send(service, keys[0]) for _ in range(15)) == {200: 10, 429: 5}
        service.touch(HOLD)
        waiting = [clients.submit(send, service, keys[1]) for _ in range(9)]
        until(lambda: sum(answer.done() for answer in waiting) >= 6)
        service.remove(HOLD)
        statuses = Counter(answer.result() for answer in waiting)

        assert statuses[200] <= 3
        assert statuses[429] >= 6
        assert send(service, keys[1]) == 200, "what was in flight has been given back"
