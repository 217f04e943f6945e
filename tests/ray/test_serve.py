"""Ray Serve: the service on two nodes answers as one process does, outlives its replicas, and follows the load."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import skimage.data
from PIL import Image
from pydantic import ValidationError
from ray import serve

from service.app import create_app
from service.clock import SystemClock
from service.loading import load_recognizer
from service.ray_app import ClusterSettings
from tests.ray.replicas import Application, loader, picture, seen, serving
from tests.service.fakes import encode, post, running

ROOT = Path(__file__).parents[2]

ONE_A_NODE = {"replica_cpus": 0.6, "replica_memory": 2**29}
"""Two replicas of 0.6 CPUs never fit one node of one CPU."""


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for entry in value.values() for number in _numbers(entry)]
    if isinstance(value, list):
        return [number for entry in value for number in _numbers(entry)]
    return [value] if isinstance(value, int | float) else []


def test_serve_run_on_two_nodes_answers_as_one_process_does(ray_cluster: str, serve_port: int) -> None:
    choices = {"precision": "float32", "min_replicas": 2, "max_replicas": 2, **ONE_A_NODE}
    portrait = Image.fromarray(skimage.data.astronaut())
    pictures = [encode(portrait.resize((side, side)), "JPEG", quality=90) for side in (512, 400, 300, 220)]
    own = ClusterSettings(**choices).of_replica()

    async def one_process() -> list[dict[str, object]]:
        async with running(create_app(own, load_recognizer(own), SystemClock())) as client:
            return [(await post(client, data)).json() for data in pictures]

    expected = asyncio.run(one_process())
    command = [sys.executable, "-m", "ray.serve.scripts", "run", "--non-blocking", "--address", ray_cluster]
    where = ["--name", "real", "--route-prefix", "/real", "service.ray_app:app"]
    subprocess.run([*command, *where, *(f"{name}={value}" for name, value in choices.items())], check=True, cwd=ROOT)
    try:
        application = Application("real", f"http://127.0.0.1:{serve_port}/real")
        application.wait_for(2)
        with ThreadPoolExecutor(4) as clients:
            answers = list(clients.map(application.post, pictures * 4))
    finally:
        serve.delete("real")

    assert [answer.status_code for answer in answers] == [200] * 16
    for answer, wanted in zip(answers, expected * 4, strict=True):
        found = answer.json()
        assert found["faces"][0]["expression"] == wanted["faces"][0]["expression"]
        assert _numbers(found) == pytest.approx(_numbers(wanted), abs=1e-4)


class Load:
    """Clients that each post their next picture when the last is answered, and post one again that failed."""

    def __init__(self, post: Callable[[bytes], httpx.Response], clients: int) -> None:
        self.failed: dict[int, float] = {}
        self.answered: set[int] = set()
        self._post = post
        self._numbers = iter(range(1, 65536))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = [self._pool.submit(self._run) for _ in range(clients)]

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                number = next(self._numbers)
            for _ in range(20):
                began = time.monotonic()
                answer = self._post(picture(number))
                if answer.status_code == 200:
                    assert answer.json()["faces"][0]["expression"]
                    self.answered.add(number)
                    break
                self.failed[number] = began
                time.sleep(0.2)
            else:
                raise AssertionError(f"a picture was never answered: {answer.status_code}")

    def stop(self) -> None:
        """Let every client finish; an error of one of them is raised here."""
        self._stop.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()


def test_killing_a_replica_loses_only_what_it_held_and_a_retrying_client_nothing(
    serve_port: int, tmp_path: Path
) -> None:
    settings = ClusterSettings(min_replicas=2, max_replicas=2, max_batch_size=2, **ONE_A_NODE)
    with serving("killed", serve_port, settings, loader(tmp_path, 0.1)) as application:
        application.wait_for(2)
        load = Load(application.post, clients=8)
        _until(lambda: len(load.answered) > 40 and len(seen(tmp_path)) == 2)
        before = set(load.answered)
        victim, _ = seen(tmp_path)
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        _until(lambda: len(load.answered) > len(before) + 60)
        load.stop()
        application.wait_for(2)
        pids = seen(tmp_path)

    assert len(load.failed) <= 8, "more failed than there were clients"
    assert all(began < killed for began in load.failed.values()), "one failed that was sent after the kill"
    assert load.failed.keys().isdisjoint(before)
    assert len(load.failed) <= len(pids[victim]), "more failed than it ever saw"
    assert load.failed.keys() <= load.answered, "a retrying client saw one fail"


def _until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_replicas_follow_the_load_up_and_down_and_no_request_is_lost(serve_port: int, tmp_path: Path) -> None:
    settings = ClusterSettings(
        max_replicas=2, ongoing_requests=2, look_back=10.5, upscale_delay=0, downscale_delay=1, **ONE_A_NODE
    )
    with serving("scaled", serve_port, settings, loader(tmp_path, 0.1)) as application:
        application.wait_for(1)
        load = Load(application.post, clients=8)
        application.wait_for(2)
        _until(lambda: len(seen(tmp_path)) == 2)
        load.stop()
        one = Load(application.post, clients=1)
        application.wait_for(1)
        one.stop()

    assert load.failed == one.failed == {}


def test_a_replica_whose_network_answers_no_more_is_replaced(serve_port: int, tmp_path: Path) -> None:
    settings = ClusterSettings(max_replicas=1, health_period=0.2, **ONE_A_NODE)
    with serving("broken", serve_port, settings, loader(tmp_path, 0.0)) as application:
        application.wait_for(1)
        assert application.post(picture(1)).status_code == 200
        [broken] = seen(tmp_path)
        (tmp_path / f"{broken}.broken").touch()
        statuses = {application.post(picture(number)).status_code for number in range(2, 5)}
        _until(lambda: application.post(picture(9)).status_code == 200)

        assert 200 not in statuses
        assert set(seen(tmp_path)) > {broken}


@pytest.mark.parametrize(
    ("choices", "words"),
    [({"replicas": 3}, "replicas"), ({"min_replicas": 3, "max_replicas": 2}, "below min_replicas, 3")],
)
def test_what_cannot_be_meant_is_refused(choices: dict[str, int], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ClusterSettings.model_validate(choices)


def test_a_replica_takes_no_more_threads_than_it_reserves_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANET_REPLICA_CPUS", "1.5")
    settings = ClusterSettings.model_validate({"workers": "1"}).of_replica()

    assert (settings.threads, settings.workers) == (2, 1)
