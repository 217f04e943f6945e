"""Ray Serve: the service on two nodes answers as one process does, outlives its replicas, and follows the load."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import skimage.data
from PIL import Image
from pydantic import ValidationError

from service.app import create_app
from service.clock import SystemClock
from service.inference.engine import load_recognizer
from service.middleware.request_id import REQUEST_ID
from service.ray_app import ClusterSettings
from testing.fakes import RED, encode, post, running
from tests.ray import replicas
from tests.ray.replicas import Fakes, given, serving

ROOT = Path(__file__).parents[2]

ONE_A_NODE: dict[str, Any] = {"replica_cpus": 0.6, "replica_memory": 2**29}
"""Two replicas of 0.6 CPUs never fit one node of one CPU."""


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for entry in value.values() for number in _numbers(entry)]
    if isinstance(value, list):
        return [number for entry in value for number in _numbers(entry)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.usefixtures("one_process")
def test_serve_run_on_two_nodes_answers_as_one_process_does(ray_cluster: str, serve_port: int) -> None:
    choices: dict[str, Any] = {"min_replicas": 2, "max_replicas": 2, **ONE_A_NODE}
    portrait = Image.fromarray(skimage.data.astronaut())
    images = [encode(portrait.resize((side, side)), "JPEG", quality=90) for side in (512, 400, 300, 220)]
    own = ClusterSettings(**choices).of_replica()

    async def one_process() -> list[dict[str, Any]]:
        async with running(create_app(own, load_recognizer(own), SystemClock())) as client:
            return [(await post(client, data)).json() for data in images]

    expected = asyncio.run(one_process())
    command = [sys.executable, "-m", "ray.serve.scripts", "run", "--non-blocking", "--address", ray_cluster]
    where = ["--name", "real", "--route-prefix", "/real", "service.ray_app:app"]
    subprocess.run([*command, *where, *(f"{name}={value}" for name, value in choices.items())], check=True, cwd=ROOT)
    with replicas.running("real", serve_port) as application:
        application.wait_for(2)
        with ThreadPoolExecutor(4) as clients:
            answers = list(clients.map(application.post, images * 4))

    assert [answer.status_code for answer in answers] == [200] * 16
    for answer, wanted in zip(answers, expected * 4, strict=True):
        found = answer.json()
        assert found["faces"][0]["expression"] == wanted["faces"][0]["expression"]
        assert _numbers(found) == pytest.approx(_numbers(wanted), abs=2e-2)


class Load:
    """Clients that each send their next request when the last is answered, and one again that failed, by a new id."""

    def __init__(self, post: Callable[..., httpx.Response], clients: int) -> None:
        self.sent: set[str] = set()
        self.failed: set[str] = set()
        self.answered: set[str] = set()
        self._post = post
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = [self._pool.submit(self._run) for _ in range(clients)]

    def _run(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            for attempt in range(20):
                name = f"{number}-{attempt}"
                self.sent.add(name)
                answer = self._post(name=name)
                if answer.status_code == 200:
                    assert set(answer.headers.get_list(REQUEST_ID)) == {name}
                    assert answer.json()["faces"][0]["expression"] == RED
                    self.answered.add(name)
                    break
                self.failed.add(name)
                time.sleep(0.2)
            else:
                raise AssertionError(f"a request was never answered: {answer.status_code}")

    def has_answers(self, more_than: int) -> bool:
        """Return whether there are so many; an error of a client is raised here."""
        for client in self._clients:
            if client.done():
                client.result()
        return len(self.answered) > more_than

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
    with serving("killed", serve_port, settings, Fakes(tmp_path, 0.2)) as application:
        application.wait_for(2)
        load = Load(application.post, clients=8)
        _until(lambda: load.has_answers(8))
        victim = max(given(tmp_path), key=lambda process: len(given(tmp_path)[process]))
        # One more than a batch: at least one of them has to wait for a batch and more.
        _until(lambda: len(given(tmp_path)[victim] - load.answered) > settings.max_batch_size)
        os.kill(victim, signal.SIGKILL)
        under_way = load.sent - load.answered
        _until(lambda: load.has_answers(40))
        load.stop()
        application.wait_for(2)

    names = given(tmp_path)
    held = names.pop(victim) - load.answered
    assert load.failed & held, "it was killed while it held nothing"
    assert load.failed <= under_way, "one failed that was sent after the kill"
    assert load.failed.isdisjoint(set().union(*names.values())), "one failed that another replica was given"
    assert {name.partition("-")[0] for name in load.failed} <= {name.partition("-")[0] for name in load.answered}


def _until(happened: Callable[[], bool], looks: int = 3000) -> None:
    """Wait; looks are counted, since a clock goes on while all processes are held."""
    for _ in range(looks):
        if happened():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def test_replicas_follow_the_load_up_and_down_and_no_request_is_lost(serve_port: int, tmp_path: Path) -> None:
    settings = ClusterSettings(
        max_replicas=2, ongoing_requests=2, look_back=10.5, upscale_delay=0, downscale_delay=1, **ONE_A_NODE
    )
    with serving("scaled", serve_port, settings, Fakes(tmp_path, 0.1)) as application:
        application.wait_for(1)
        load = Load(application.post, clients=8)
        application.wait_for(2)
        _until(lambda: len(given(tmp_path)) == 2)
        load.stop()
        one = Load(application.post, clients=1)
        application.wait_for(1)
        one.stop()

    assert load.failed == one.failed == set()


def test_a_replica_whose_network_answers_no_more_is_replaced(serve_port: int, tmp_path: Path) -> None:
    settings = ClusterSettings(max_replicas=1, health_period=0.2, **ONE_A_NODE)
    with serving("broken", serve_port, settings, Fakes(tmp_path, 0.0)) as application:
        application.wait_for(1)
        assert application.post().status_code == 200
        [broken] = given(tmp_path)
        (tmp_path / f"{broken}.broken").touch()
        statuses = {application.post().status_code for _ in range(3)}
        _until(lambda: application.post().status_code == 200)

        assert 200 not in statuses
        assert set(given(tmp_path)) > {broken}


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
