"""What ends while several processes serve: a front end, the engine's process, the supervisor, and all by SIGTERM."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from testing.fakes import RED_FACE
from testing.front_ends import HOLD, SLOW, FrontEnds, serving_with_front_ends, starting_with_front_ends
from testing.live import until
from testing.processes import ROOT, listens, runs

pytestmark = pytest.mark.slow


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def held(service: FrontEnds, clients: ThreadPoolExecutor, count: int) -> list[Future[int]]:
    """Return requests that are in flight, on both front ends."""
    service.touch(HOLD)
    answers = [clients.submit(service.status) for _ in range(count)]
    service.wait_for("manet_images_in_flight", count)
    return answers


def _ups(service: FrontEnds, number: int) -> int:
    return service.text.count(f"front end {number} is up")


def test_a_killed_front_end_loses_its_own_connections_only_and_comes_back(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    name = 'manet_requests_total{route="/predict",status="200"}'
    with serving_with_front_ends(tmp_path, max_queued_faces=20, max_batch_size=2) as service:
        assert [service.status() for _ in range(4)] == [200] * 4
        series, descriptors = _series(service), _descriptors(service)
        lost = 0
        for starts in (2, 3, 4):
            answers = held(service, clients, 8)
            os.kill(service.pids("front end 0")[-1], signal.SIGKILL)
            until(lambda: _ups(service, 0) == starts, 60)  # noqa: B023
            service.wait_for("manet_images_in_flight", 8 - sum(answer.done() for answer in answers))
            service.remove(HOLD)
            statuses = Counter(answer.result() for answer in answers)
            assert set(statuses) == {0, 200}, "some were on either front end"
            lost += statuses[0]

        service.wait_for("manet_images_in_flight", 0)
        assert len(set(service.pids("front end 0"))) == 4
        assert len(service.pids("front end 1")) == len(service.pids("engine")) == 1
        assert [service.status() for _ in range(40)] == [200] * 40, "its slots are free again"
        assert service.metric(name) == 4 + 3 * 8 - lost + 40, "what it had counted is kept"
        assert _series(service) == series, "restarts add no series"
        until(lambda: _descriptors(service) == descriptors)


def _descriptors(service: FrontEnds) -> int:
    """Return how many files and sockets the supervisor has open."""
    return len(os.listdir(f"/proc/{service.process.pid}/fd"))


def _series(service: FrontEnds) -> int:
    text = httpx.get(f"{service.address}/metrics").text  # /metrics itself is counted once it was asked
    return len({line.partition(" ")[0] for line in text.splitlines() if 'route="/metrics"' not in line})


def test_a_killed_engine_is_503_at_once_and_200_again_from_a_new_process(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with serving_with_front_ends(tmp_path) as service:
        answers = held(service, clients, 8)
        service.touch(SLOW)  # until it goes, there is no engine
        os.kill(service.pids("engine")[-1], signal.SIGKILL)

        assert [answer.result() for answer in answers] == [503] * 8
        for _ in range(4):
            refused = httpx.post(f"{service.address}/predict", files={"image": ("x", RED_FACE)})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert not service.ready()
        service.remove(HOLD)
        service.remove(SLOW)
        until(service.ready, 60)
        until(lambda: [service.status() for _ in range(4)] == [200] * 4, 60)
        assert len(set(service.pids("engine"))) == 2
        assert service.metric("manet_engine_rebuilds") == 1
        assert service.metric("manet_images_in_flight") == service.metric("manet_queue_depth") == 0


def test_a_network_that_hangs_is_503_and_200_again_from_a_new_process(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with serving_with_front_ends(tmp_path, engine_timeout=10) as service:
        answers = held(service, clients, 2)
        service.touch(SLOW)
        assert [answer.result() for answer in answers] == [503] * 2
        assert [service.status() for _ in range(4)] == [503] * 4
        service.remove(HOLD)
        service.remove(SLOW)
        until(service.ready, 60)
        until(lambda: service.status() == 200, 60)
        assert len(set(service.pids("engine"))) == 2


@pytest.mark.parametrize("name", ["engine", "front end 1"])
def test_a_process_whose_event_loop_hangs_is_killed_and_restarted(name: str, tmp_path: Path) -> None:
    with serving_with_front_ends(tmp_path, engine_timeout=10) as service:
        os.kill(service.pids(name)[-1], signal.SIGSTOP)
        until(lambda: len(service.pids(name)) == 2, 60)
        until(lambda: name == "engine" or _ups(service, 1) == 2, 60)
        until(lambda: [service.status() for _ in range(4)] == [200] * 4, 60)
        assert f"{name} (process {service.pids(name)[0]}) hangs and is killed" in service.text


def test_an_explainer_that_hangs_is_503_and_200_again_from_a_new_process(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with serving_with_front_ends(tmp_path, explain=True, engine_timeout=10, deadline=120) as service:
        until(lambda: service.status("/explain") == 200, 120)  # its process may be up a little later
        os.kill(service.pids("explainer")[-1], signal.SIGSTOP)
        waiting = clients.submit(service.status, "/explain")

        assert waiting.result() == 503
        until(lambda: service.status("/explain") == 200, 120)
        assert f"explainer (process {service.pids('explainer')[0]}) hangs and is killed" in service.text
        assert [len(service.pids(name)) for name in ("explainer", "engine", "front end 0")] == [2, 1, 1]


def test_with_exit_a_lost_engine_ends_the_service_with_status_1(tmp_path: Path) -> None:
    with serving_with_front_ends(tmp_path, on_engine_failure="exit") as service:
        os.kill(service.pids("engine")[-1], signal.SIGKILL)

        assert service.process.wait(60) == 1


def test_a_killed_supervisor_leaves_no_process(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    with serving_with_front_ends(tmp_path, explain=True) as service:
        until(lambda: service.status("/explain") == 200, 120)  # its process may be up a little later
        answers = held(service, clients, 4)
        pids = [service.pids(name)[-1] for name in ("engine", "explainer", "front end 0", "front end 1")]
        assert all(map(runs, pids))
        service.process.kill()
        service.remove(HOLD)

        until(lambda: not any(map(runs, pids)), 60)
        assert [answer.result() for answer in answers] == [200] * 4, "what was admitted is answered even so"


def test_a_process_that_hangs_outlives_a_killed_supervisor_no_longer_than_its_requests(tmp_path: Path) -> None:
    (tmp_path / SLOW).touch()  # the engine's process never comes to its event loop
    with starting_with_front_ends(tmp_path, shutdown_timeout=1) as service:
        until(lambda: all(service.pids(name) for name in ("engine", "front end 0", "front end 1")), 60)
        pids = [service.pids(name)[-1] for name in ("engine", "front end 0", "front end 1")]
        time.sleep(2)  # it has begun to load
        service.process.kill()

        try:
            until(lambda: not any(map(runs, pids)), 60)
        finally:
            service.remove(SLOW)


def test_sigterm_answers_all_that_was_admitted(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    with serving_with_front_ends(tmp_path, max_batch_size=2) as service:
        port = int(service.address.rpartition(":")[2])
        answers = held(service, clients, 12)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: not listens(port))
        service.remove(HOLD)

        assert [answer.result() for answer in answers] == [200] * 12
        assert service.process.wait(60) == 0
        assert not any(runs(pid) for name in ("engine", "front end 0", "front end 1") for pid in service.pids(name))


# -- the start


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--weights", "nothing"], 2, "manet-serve: unknown weights 'nothing'"),
        (["--host", "192.0.2.1", "--allow-anonymous", "true"], 2, "manet-serve: [Errno 99]"),
        (["--device", "cuda", "--backend", "openvino"], 2, "manet-serve: "),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_a_line(flags: list[str], status: int, words: str) -> None:
    command = [sys.executable, "-m", "service", "--front-ends", "2", "--port", "0", *flags]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)

    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_during_the_start_ends_it_in_order(tmp_path: Path) -> None:
    (tmp_path / SLOW).touch()
    with starting_with_front_ends(tmp_path) as service:
        until(lambda: len(service.pids("front end 1")) == 1, 60)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: not runs(service.pids("front end 0")[0]), 60)
        service.remove(SLOW)

        assert service.process.wait(60) == 0
        assert not runs(service.pids("engine")[0])


def test_a_second_signal_does_not_wait(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    with serving_with_front_ends(tmp_path) as service:
        answers = held(service, clients, 2)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: "Shutting down" in service.text)
        service.process.send_signal(signal.SIGTERM)

        assert service.process.wait(60) == 0
        assert {answer.result() for answer in answers} <= {0, 503}
        assert not any(runs(pid) for name in ("engine", "front end 0", "front end 1") for pid in service.pids(name))
