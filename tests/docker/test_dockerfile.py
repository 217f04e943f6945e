"""Dockerfile: what can be held without an engine; docs/operations.md says how the image itself is built and tried."""

import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STAGES = dict(re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, flags=re.MULTILINE))


def _stage(name: str) -> str:
    """Return the text of one stage."""
    body: str
    [body] = re.findall(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, flags=re.MULTILINE | re.DOTALL)
    return body


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_default_target_is_cpu_and_takes_nothing_from_where_torch_is() -> None:
    assert re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)[-1] == "cpu"
    assert re.findall(r"--from=(\S+) (\S+)", _stage("cpu")) == [("slim-packages", "/opt/manet")]
    assert "torch" not in _stage("slim-packages")


def test_what_runs_is_no_superuser_and_has_an_init_and_a_health_check() -> None:
    runtime = _stage("runtime")

    assert re.search(r"^USER 10001:10001$", runtime, flags=re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["/usr/bin/tini", "--"\]$', runtime, flags=re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", runtime, flags=re.MULTILINE)
    assert re.search(r'^HEALTHCHECK .* CMD \["python", "/opt/healthcheck.py"\]$', runtime, flags=re.MULTILINE)
    assert "USER root" not in DOCKERFILE


def test_the_label_has_the_projects_version() -> None:
    assert f"ARG VERSION={PROJECT['version']}\n" in DOCKERFILE
    assert f'org.opencontainers.image.licenses="{PROJECT["license"]}"' in DOCKERFILE


def test_every_file_that_a_stage_copies_passes_dockerignore() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        name
        for names in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
        for name in names.split()
    }

    assert "*" in lines
    assert copied == admitted
    assert all((ROOT / name).exists() for name in copied)


def test_each_image_gets_the_extras_that_it_needs() -> None:
    for stage, extras in (("slim-packages", "otel"), ("full-packages", "explain,gpu,otel")):
        assert f'"${{wheel}}[{extras}]"' in _stage(stage)
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert not [one for one in PROJECT["dependencies"] if one.startswith("torch")]


class _Answer(BaseHTTPRequestHandler):
    """Answers the readiness of a test."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health/ready" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(params=[200, 503])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The port of a server, and the status that it answers with."""
    handler = type("Handler", (_Answer,), {"status": request.param})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, request.param
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", [None, "0.0.0.0", "127.0.0.1", "localhost"])
def test_the_health_check_says_what_the_service_says(answering: tuple[int, int], host: str | None) -> None:
    port, status = answering
    environment = {"MANET_PORT": str(port), "http_proxy": "http://127.0.0.1:9"} | ({"MANET_HOST": host} if host else {})
    done = subprocess.run([sys.executable, ROOT / "docker/healthcheck.py"], env=environment, check=False)

    assert done.returncode == (0 if status == 200 else 1)


def test_the_health_check_asks_where_the_service_listens(answering: tuple[int, int]) -> None:
    port, _ = answering
    environment = {"MANET_PORT": str(port), "MANET_HOST": "127.0.0.2"}
    done = subprocess.run([sys.executable, ROOT / "docker/healthcheck.py"], env=environment, check=False)

    assert done.returncode == 1, "the server listens on 127.0.0.1 only"


def test_the_health_check_fails_where_nothing_listens() -> None:
    command: list[str | Path] = [sys.executable, ROOT / "docker/healthcheck.py"]

    assert subprocess.run(command, env={"MANET_PORT": "9"}, check=False).returncode == 1


def test_git_keeps_no_secret() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is not a git clone, so there is nothing that git would keep")
    command = ["git", "check-ignore", "docker/secrets/api_keys", "docker/secrets/grafana_admin_password"]

    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
