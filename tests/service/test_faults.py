"""What breaks while it serves: the network, the detector, the process; each seen from outside."""

import ast
import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import skimage.data
from fastapi import FastAPI
from PIL import Image

from manet.recognizer import Recognizer
from manet.vision.faces import DetectedFace
from manet.vision.preprocess import Pixels
from service.app import create_app
from service.clock import SystemClock
from service.inference.detector import DetectorGuard
from service.settings import Settings
from testing.fakes import RED, RED_FACE, WEIGHTS, FakeBackend, FakeDetector, encode, paint, post, running, until
from testing.processes import ROOT
from tests.service.test_problems import check

POISON = encode(paint((200, 0, 0)))


def rebuilding(
    first: FakeBackend,
    detector: FakeDetector | None = None,
    reload: Callable[[], FakeBackend] = FakeBackend,
    **settings: Any,
) -> FastAPI:
    """Return an application whose network is replaced by a sound one when it is lost."""
    recognizer = Recognizer(WEIGHTS, first, detector or FakeDetector())
    return create_app(Settings(**settings), recognizer, SystemClock(), reload=reload)


async def ready_again(client: httpx.AsyncClient) -> None:
    """Wait until the service is ready."""
    async with asyncio.timeout(20):
        while (await client.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.01)


# -- the network


@pytest.mark.anyio
async def test_a_poisoned_image_in_a_full_batch_fails_alone() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    app = rebuilding(backend)
    async with running(app) as client:
        first = asyncio.create_task(post(client, RED_FACE))
        await until(backend.entered)
        others = [asyncio.create_task(post(client, POISON if k == 3 else RED_FACE)) for k in range(8)]
        while app.state.service.scheduler.depth < 8:
            await asyncio.sleep(0.01)
        backend.poison = 200
        backend.gate.set()
        answers = await asyncio.gather(*others)

        assert backend.batches[1] == 8, "they were not one batch"
        assert [answer.status_code for answer in answers] == [200] * 3 + [500] + [200] * 4
        check(answers[3], 500, "face-failed", "this face")
        assert (await first).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200
        assert "manet_engine_rebuilds 0.0" in (await client.get("/metrics")).text


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["fails on every batch", "ran out of memory", "hangs"])
async def test_a_lost_network_refuses_with_a_reason_and_is_built_again(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, refused = FakeBackend(), threading.Event()
    monkeypatch.setattr("service.batching.supervisor.EngineSupervisor.CLOSING", 0.3)

    def reload() -> FakeBackend:
        refused.wait(20)  # or the new network might be there before anything is refused
        return FakeBackend()

    # Short only where it is waited for: a network that was not asked for so long is not trusted either.
    timeout = 1 if fault == "hangs" else 30
    async with running(rebuilding(backend, reload=reload, engine_timeout=timeout)) as client:
        if fault == "hangs":
            backend.gate.clear()
        elif fault == "ran out of memory":
            monkeypatch.setattr(backend, "infer", _out_of_memory)
        else:
            backend.broken = True
        lost = await asyncio.gather(*(post(client, RED_FACE) for _ in range(4)))
        # One that fails is suspected at its second failure; one that hangs is late before it is taken for lost.
        while f"the network {fault}" not in lost[-1].text:
            lost.append(await post(client, RED_FACE))

        refused.set()

        check(lost[-1], 503, "not-ready", f"the network {fault}")
        assert int(lost[-1].headers["retry-after"]) >= 1
        await ready_again(client)
        assert (await post(client, RED_FACE)).json()["faces"][0]["expression"] == RED
        told = (await client.get("/metrics")).text
        assert "manet_engine_rebuilds 1.0" in told
        assert f"manet_engines_hanging {1.0 if fault == 'hangs' else 0.0}" in told
        assert "manet_ready 1.0" in told
        backend.gate.set()


def _out_of_memory(images: Pixels) -> None:
    raise MemoryError


# -- the detector


class FailingDetector(FakeDetector):
    """Fails altogether, or on images of one colour."""

    def __init__(self) -> None:
        self.broken = False
        self.poison: int | None = None

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        if self.broken or (self.poison is not None and image[0, 0, 0] == self.poison):
            raise RuntimeError("/secret/path: out of order")
        return super().detect(image, small_faces=small_faces)


@pytest.mark.anyio
async def test_a_detector_that_fails_keeps_detect_out_while_whole_goes_on() -> None:
    detector = FailingDetector()
    app = rebuilding(FakeBackend(), detector)
    async with running(app) as client:
        detector.broken = True
        for _ in range(2):
            refused = await post(client, RED_FACE)
            check(refused, 503, "detector-unavailable", "face detection is unavailable")
            assert refused.headers["retry-after"] == "5"
        whole = await post(client, RED_FACE, faces="whole")
        rows = (await client.post("/predict/batch", files=[("images", RED_FACE)] * 2)).json()["results"]

        assert whole.json()["faces"][0]["expression"] == RED
        assert [row["problem"]["type"] for row in rows] == ["urn:manet:problem:detector-unavailable"] * 2
        assert (await client.get("/health/ready")).status_code == 200, "crops are answered still"
        told = (await client.get("/metrics")).text
        assert "manet_detector_ready 0.0" in told
        assert "manet_detections_failed 1.0" in told, "it is asked once an interval, not by everyone"


@pytest.mark.anyio
async def test_an_image_that_the_detector_fails_on_fails_alone() -> None:
    detector = FailingDetector()
    detector.poison = 200
    async with running(rebuilding(FakeBackend(), detector)) as client:
        check(await post(client, POISON), 500, "detection-failed", "this image")
        assert (await post(client, RED_FACE)).status_code == 200
        assert "manet_detector_ready 1.0" in (await client.get("/metrics")).text


class Hands:
    """A clock in the test's hands."""

    time = 100.0

    def now(self) -> float:
        return self.time

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        raise AssertionError("the guard does not wait")


def test_a_broken_detector_is_tried_once_an_interval_and_comes_back() -> None:
    hands, probes, broken = Hands(), [], True

    def search() -> None:
        probes.append(hands.time)
        if broken:
            raise RuntimeError("out of order")

    guard = DetectorGuard(search, clock=hands)

    def outcome() -> str:
        try:
            with guard.searching():
                search()
        except Exception as error:
            return type(error).__name__
        return "found"

    assert outcome() == "DetectorUnavailableError"
    assert len(probes) == 2, "the image, then a blank one"
    hands.time += 4.9
    assert (outcome(), len(probes), guard.alive) == ("DetectorUnavailableError", 2, False)
    hands.time += 0.2
    assert (outcome(), len(probes)) == ("DetectorUnavailableError", 4)
    broken = False
    assert (outcome(), len(probes)) == ("DetectorUnavailableError", 4)
    hands.time += 5.0
    assert (outcome(), guard.alive, guard.failures) == ("found", True, 2)


# -- the process

LOST = """
import sys, threading

from service.server import run, server
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings
from testing.fakes import FakeBackend, recognizer

settings = Settings(port=0, shutdown_timeout=10, max_batch_size=1, engine_timeout=1, on_engine_failure=sys.argv[2])
backend = FakeBackend()
refused = threading.Event()


def reload():
    refused.wait(20)
    return FakeBackend()


app = create_app(settings, recognizer(backend), SystemClock(), reload=reload)


def lose():
    if sys.argv[1] == "hangs":
        backend.gate.clear()
    elif sys.argv[1] == "scheduler":
        app.state.service.metrics.waited = None
    else:
        backend.broken = True


told = lambda: (sys.stdin.readline(), lose(), sys.stdin.readline(), refused.set())
threading.Thread(target=told, daemon=True).start()
run(server(app, settings))
"""


@pytest.mark.parametrize(
    ("fault", "then", "status"),
    [
        ("fails", "exit", 1),
        ("hangs", "exit", 1),
        ("fails", "rebuild", 0),
        ("scheduler", "exit", 1),
        ("scheduler", "rebuild", 1),
    ],
)
def test_a_lost_network_ends_the_process_if_that_is_set_and_a_dead_scheduler_always(
    fault: str, then: str, status: int
) -> None:
    command = [sys.executable, "-c", LOST, fault, then]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stderr=pipe, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            address = _address(process)
            assert process.stdin is not None
            process.stdin.write("now\n")
            process.stdin.flush()
            statuses = []
            began = time.monotonic()
            while status and process.poll() is None and time.monotonic() < began + 30:
                statuses += _tried(address)
            if not status:
                while 503 not in statuses:
                    statuses += _tried(address)
                process.stdin.write("refused\n")
                process.stdin.flush()
                while 200 not in statuses[statuses.index(503) :]:
                    statuses += _tried(address)
                process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == status
            assert set(statuses) <= {200, 500, 503}
        finally:
            process.kill()


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()  # so that it never blocks on the pipe
            return found[1]
    raise AssertionError("the service did not start")


def _tried(address: str) -> list[int]:
    """Return the status of an upload, or nothing where no one listens any more."""
    try:
        return [httpx.post(f"{address}/predict", files={"image": RED_FACE}, timeout=20).status_code]
    except httpx.TransportError:
        return []


LOADED = """
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client import generate_latest

from service.server import run, server
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings
from testing.fakes import FakeBackend, recognizer

settings = Settings(port=0, shutdown_timeout=10, max_batch_size=4)
app = create_app(settings, recognizer(FakeBackend(seconds=0.02)), SystemClock())
run(server(app, settings))
text = generate_latest(app.state.service.metrics.registry).decode()
samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
print({s.labels["status"]: int(s.value) for s in samples if s.name == "manet_requests_total"})
"""


def test_sigterm_under_full_load_loses_no_request_that_came_in() -> None:
    command, pipe = [sys.executable, "-c", LOADED], subprocess.PIPE
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process,
        ThreadPoolExecutor(16) as clients,
    ):
        try:
            address = _address(process)
            enough = threading.Semaphore(0)

            def client(_: int) -> "Counter[str]":
                seen: Counter[str] = Counter()
                with httpx.Client(timeout=60) as http:
                    while True:
                        try:
                            answer = http.post(f"{address}/predict", files={"image": RED_FACE})
                        except httpx.ConnectError:
                            return seen
                        except httpx.TransportError:
                            continue  # whether it came in, and was lost, is what the process itself tells
                        seen[str(answer.status_code)] += 1
                        enough.release()

            loops = [clients.submit(client, k) for k in range(16)]
            for _ in range(60):
                assert enough.acquire(timeout=60)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=15) == 0
            took = time.monotonic() - began
            seen = sum((loop.result() for loop in loops), Counter())
            assert process.stdout is not None
            answered = ast.literal_eval([line for line in process.stdout if line.startswith("{")][-1])
        finally:
            process.kill()

    assert seen == Counter(answered), "what the service answered is what the clients saw, and it let no one go without"
    assert seen["200"] >= 60
    assert set(seen) <= {"200", "503"}
    assert took < 10, "the shutdown timeout"


def test_killed_it_comes_back_ready_and_had_written_nothing(tmp_path: Path) -> None:
    def serve_and_kill() -> None:
        home = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
        environment = {**os.environ, **home, "MANET_PORT": "0"}
        command = [sys.executable, "-m", "service"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                address = _address(process)
                assert httpx.get(f"{address}/health/ready", timeout=20).status_code == 200
                portrait = encode(Image.fromarray(skimage.data.astronaut()))
                assert httpx.post(f"{address}/predict", files={"image": portrait}, timeout=20).status_code == 200
            finally:
                process.kill()
            assert process.wait(timeout=10) == -signal.SIGKILL

    for _ in range(2):
        serve_and_kill()
        assert list(tmp_path.rglob("*")) == []
