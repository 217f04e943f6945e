"""Compose on a real engine: what the files promise, seen from outside and from inside of the containers."""

import contextlib
import json
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import skimage.data
from PIL import Image

from testing.compose import HEALTH_CHECK, PUBLIC, Project, inspect, missing, project
from testing.large_images import attacked, largest_image
from testing.processes import free_port, metric
from tests.docker.configuration import RULES, expressions

ROOT = Path(__file__).parents[2]
KEY, METRICS_KEY = "0123456789abcdef" * 2, "fedcba9876543210" * 2
PATIENCE = 300
"""Seconds for what an engine with other work may take."""


MISSING = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(MISSING is not None, reason=str(MISSING)), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def image() -> str:
    """The image of this source tree, built."""
    subprocess.run(["docker", "compose", "build", "manet"], cwd=ROOT, capture_output=True, check=True)
    return "manet:cpu"


@pytest.fixture(scope="module")
def running(image: str) -> Iterator[Project]:
    """The service as ``docker compose up --wait`` leaves it."""
    with project() as made:
        made("up", "--wait")
        yield made


@pytest.fixture(scope="module")
def photo() -> bytes:
    content = BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(content, "JPEG", quality=95)
    return content.getvalue()


def _post(address: str, photo: bytes, **headers: str) -> httpx.Response:
    return httpx.post(f"{address}/predict", files={"image": photo}, headers=headers, timeout=PATIENCE)


def _expressions(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [face["expression"] for face in answer.json()["faces"]]


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def _ready(address: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{address}/health/ready").status_code == 200
    return False


def test_up_answers_a_photo(running: Project, photo: bytes) -> None:
    assert _expressions(_post(running.address, photo)) == ["happiness"]


def test_the_image_is_small(image: str) -> None:
    assert inspect(image)["Size"] < 600e6


def test_it_holds_no_pytorch_and_explains_nothing(running: Project, photo: bytes) -> None:
    found = running.inside("from importlib.util import find_spec; print(find_spec('torch'))")
    told = httpx.post(f"{running.address}/explain", files={"image": photo}, timeout=PATIENCE)

    assert found == "None\n"
    assert (told.status_code, told.json()["type"]) == (501, "urn:manet:problem:explanations-unavailable")


def test_it_is_hardened_as_seen_from_inside(running: Project) -> None:
    program = """
import json, os, pathlib
def denied(path):
    try:
        pathlib.Path(path).write_text("")
    except OSError as error:
        return error.strerror
    return "written"
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/1/status").read_text().splitlines())
cgroup = pathlib.Path("/sys/fs/cgroup")
unified = (cgroup / "memory.max").exists()
memory = cgroup / ("memory.max" if unified else "memory/memory.limit_in_bytes")
pids = cgroup / ("pids.max" if unified else "pids/pids.max")
print(json.dumps({
    "ids": [os.getuid(), os.getgid()],
    "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "root": [denied(path) for path in ("/x", "/opt/manet/x", "/opt/healthcheck.py", "/var/x")],
    "memory": memory.read_text().strip(),
    "pids": pids.read_text().strip(),
    "executable": os.access("/tmp", os.W_OK),
    "mounts": [line.split()[3] for line in pathlib.Path("/proc/mounts").read_text().splitlines() if " /tmp " in line],
}))
"""
    found = json.loads(running.inside(program))

    assert found["ids"] == [10001, 10001]
    assert {int(mask, 16) for mask in found["capabilities"]} == {0}
    assert found["no_new_privileges"] == "1"
    assert set(found["root"]) <= {"Read-only file system", "Permission denied"}
    assert (found["memory"], found["pids"]) == (str(2 * 1024**3), "256")
    [options] = found["mounts"]
    assert {"noexec", "nosuid", "nodev"} <= set(options.split(","))


def test_nothing_listens_beyond_this_machine(running: Project) -> None:
    [bindings] = running.state()["NetworkSettings"]["Ports"].values()

    assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}


def test_a_health_check_is_cheap(running: Project) -> None:
    assert float(running.inside(HEALTH_CHECK)) < 1.0  # CPU seconds; a machine's speed is not what is tested


def test_a_killed_service_comes_back(running: Project, photo: bytes) -> None:
    before = running.state()["RestartCount"]

    # All but PID 1, which is tini: it ends with its child.
    with contextlib.suppress(AssertionError):  # the command is among those that are killed
        running.inside("import os; os.kill(-1, 9)")
    _until(lambda: running.state()["RestartCount"] > before and _ready(running.address))

    assert _expressions(_post(running.address, photo)) == ["happiness"]


def test_large_images_at_once_do_not_end_it(running: Project) -> None:
    image = largest_image()
    first, second = attacked(running, image), attacked(running, image)

    for found in (first, second):
        assert not found["killed"]
        assert set(found["answers"]) <= {"200", "429", "504"}
    assert second["after_mb"]["resident"] < 1.05 * first["after_mb"]["resident"], "what the first left is all there is"


def test_a_stop_under_load_answers_all_that_was_admitted(running: Project, photo: bytes) -> None:
    together, clients = 24, 4
    _until(lambda: _ready(running.address))

    def batch() -> httpx.Response:
        files = [("images", photo)] * together
        return httpx.post(f"{running.address}/predict/batch", files=files, timeout=PATIENCE)

    with ThreadPoolExecutor(clients) as pool:
        answers = [pool.submit(batch) for _ in range(clients)]
        _until(lambda: metric(running.address, "manet_images_in_flight") >= clients * together // 2)
        running("stop")
        rows = [row for answer in answers for row in answer.result().raise_for_status().json()["results"]]

    answered = [row["prediction"]["faces"] for row in rows if row["prediction"] is not None]
    refused = {row["problem"]["status"] for row in rows if row["prediction"] is None}
    assert len(rows) == clients * together
    assert [len(faces) for faces in answered] == [1] * len(answered)
    assert len(answered) >= clients * together // 2
    assert refused <= {429, 503}  # what had not been admitted when the signal came
    assert running.state()["State"]["ExitCode"] == 0
    assert not running.state()["State"]["OOMKilled"]


def test_replicas_share_a_range_of_ports(image: str, photo: bytes) -> None:
    first = next(port for port in range(20_000, 60_000, 2) if _both_free(port))
    with project(MANET_PUBLISHED_PORT=f"{first}-{first + 1}", MANET_CPUS="1") as made:
        made("up", "--wait", "--scale", "manet=2")

        answers = [_post(f"http://127.0.0.1:{port}", photo) for port in (first, first + 1)]

    assert [_expressions(answer) for answer in answers] == [["happiness"]] * 2


def _both_free(port: int) -> bool:
    with contextlib.suppress(OSError), contextlib.ExitStack() as taken:
        for number in (port, port + 1):
            taken.enter_context(socket.create_server(("127.0.0.1", number)))
        return True
    return False


@pytest.fixture
def keys() -> Iterator[dict[str, str]]:
    """Files of keys where an engine sees them, which a folder for temporary files may not be."""
    with tempfile.TemporaryDirectory(dir=ROOT / "docker/secrets") as folder:
        Path(folder).chmod(0o711)
        written = {}
        for variable, content in (
            ("MANET_API_KEYS_FILE", f"{KEY}\n{METRICS_KEY}\n"),
            ("METRICS_KEY_FILE", METRICS_KEY),
        ):
            path = Path(folder) / variable.lower()
            path.write_text(content)
            path.chmod(0o444)
            written[variable] = str(path)
        yield written


def test_for_other_machines_it_listens_everywhere_and_needs_a_key(
    image: str, keys: dict[str, str], photo: bytes
) -> None:
    with project(*PUBLIC, **keys) as made:
        made("up", "--wait")
        [bindings] = made.state()["NetworkSettings"]["Ports"].values()
        refused, wrong = _post(made.address, photo), _post(made.address, photo, Authorization=f"Bearer {'x' * 32}")
        right = _post(made.address, photo, Authorization=f"Bearer {KEY}")
        open_to_all = {path: httpx.get(made.address + path).status_code for path in ("/health/live", "/metrics")}

    assert "0.0.0.0" in {binding["HostIp"] for binding in bindings}
    assert (refused.status_code, wrong.status_code) == (401, 401)
    assert _expressions(right) == ["happiness"]
    assert open_to_all == {"/health/live": 200, "/metrics": 401}


def _prometheus() -> bool:
    image = re.search(r"PROMETHEUS_IMAGE:-(\S+?)\}", (ROOT / "docker-compose.yml").read_text())
    assert image is not None
    command = ["docker", "image", "inspect", image[1]]
    return MISSING is None and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _prometheus(), reason="the image of Prometheus is not here, and nothing is pulled for a test")
@pytest.mark.parametrize("files", [(), PUBLIC])
def test_prometheus_scrapes_it_and_pages_when_it_is_gone(
    image: str, files: tuple[str, ...], keys: dict[str, str], photo: bytes
) -> None:
    port = free_port()
    asked = f"http://127.0.0.1:{port}/api/v1"

    def get(path: str, **query: str) -> Any:
        return httpx.get(f"{asked}/{path}", params=query, timeout=30).raise_for_status().json()["data"]

    def firing() -> set[str]:
        return {alert["labels"]["alertname"] for alert in get("alerts")["alerts"] if alert["state"] == "firing"}

    with project(*files, PROMETHEUS_PUBLISHED_PORT=str(port), **keys) as made:
        made("--profile", "monitoring", "up", "--wait", "manet", "prometheus")
        _expressions(_post(made.address, photo, Authorization=f"Bearer {KEY}"))
        _until(lambda: [target["health"] for target in get("targets")["activeTargets"]] == ["up"])
        groups = get("rules")["groups"]
        _until(lambda: all(rule["health"] == "ok" for group in get("rules")["groups"] for rule in group["rules"]))
        for expression in expressions():
            assert get("query", query=expression.replace("$__range", "1h"))["resultType"] in {"vector", "scalar"}
        assert get("query", query='manet_ready{job="manet"}')["result"][0]["value"][1] == "1"
        assert firing() == set()

        made("stop", "manet")
        _until(lambda: "ManetGone" in firing())

    assert [rule["name"] for group in groups for rule in group["rules"]] == [
        rule["alert"] for group in RULES["groups"] for rule in group["rules"]
    ]
