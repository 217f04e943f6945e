"""Server: a program that answers HTTP, as processes: started, asked, measured, and ended whatever happens."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.load import Samples
from testing.http_client import post, post_form
from testing.processes import free_port

ROOT = Path(__file__).parents[1]

PORT = "{port}"
"""Where a program's command and environment say this, they mean the port that it is given."""

_START_SECONDS = 300.0
"""An export of the network may come first."""

_WARM_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How to start a server and how to ask it.

    Attributes:
        name: shown in results.
        command: arguments of Python; ``{port}`` is replaced.
        path: where images are posted, with its query.
        form_field: the form field that carries the image; None posts the bare JPEG.
        ready: path that answers 200 when images are taken.
        environment: variables of its own; ``{port}`` is replaced.
    """

    name: str
    command: Sequence[str]
    path: str
    form_field: str | None = "image"
    ready: str = "/health"
    environment: Mapping[str, str] = field(default_factory=dict)

    def request(self, image: bytes) -> bytes:
        """Return the whole request that posts an image."""
        if self.form_field is None:
            return post(self.path, image, "image/jpeg")
        return post_form(self.path, self.form_field, image)


class Server:
    """A running program."""

    def __init__(self, program: Program, process: "subprocess.Popen[str]", port: int) -> None:
        self.program = program
        self.process = process
        self.port = port

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, image: bytes) -> Any:
        """Return the JSON that one image is answered with; a server that says 200 too early gets a minute.

        Raises:
            RuntimeError: if the status is not 200 by then.
        """
        end = time.monotonic() + _WARM_SECONDS
        while True:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_WARM_SECONDS) as connection:
                connection.sendall(self.program.request(image))
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                body = answer.read()
            if answer.status == 200:
                return json.loads(body)
            if time.monotonic() > end:
                raise RuntimeError(f"{self.program.name} answered {answer.status}: {body[:200]!r}")
            time.sleep(0.2)

    def cpu_seconds(self) -> float:
        """Return the CPU time of the program and all its processes so far."""
        return sum(float(times.user + times.system) for times in self._each(psutil.Process.cpu_times))

    def resident_mb(self) -> float:
        """Return the resident memory of all its processes."""
        return sum(int(memory.rss) for memory in self._each(psutil.Process.memory_info)) / 2**20

    def libraries(self) -> set[str]:
        """Return the file names that its processes have mapped."""
        return {Path(region.path).name for maps in self._each(psutil.Process.memory_maps) for region in maps}

    def rest(self, seconds: float = 60.0) -> None:
        """Wait until it has worked off what it was sent."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = self.cpu_seconds()
            time.sleep(0.5)
            if self.cpu_seconds() - before < 0.05:
                return

    def _each(self, question: Any) -> Iterator[Any]:
        main = psutil.Process(self.process.pid)
        for process in [main, *main.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                yield question(process)


@contextlib.contextmanager
def spawned(program: Program, log: Path, stdout: int | None = None) -> Iterator[Server]:
    """Start a program, and end it and all its processes in the end.

    Args:
        program: what to start.
        log: file for what it writes.
        stdout: as in ``subprocess.Popen``; None means the log.
    """
    port = free_port()
    command = [sys.executable, *(part.replace(PORT, str(port)) for part in program.command)]
    own = {name: value.replace(PORT, str(port)) for name, value in program.environment.items()}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MANET_")}
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as sink,
        subprocess.Popen(  # in a group of its own, so that its workers can be ended with it
            command,
            cwd=ROOT,
            env={**clean, **own},
            stdout=sink if stdout is None else stdout,
            stderr=sink,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Server(program, process, port)
        finally:
            _end(process)


@contextlib.contextmanager
def started(program: Program, log: Path) -> Iterator[Server]:
    """Start a program and wait until it is ready; end it and all its processes in the end."""
    with spawned(program, log) as server:
        wait_ready(server, log)
        yield server


def wait_ready(server: Server, log: Path, pause: float = 0.05) -> None:
    """Wait until a server is ready.

    Raises:
        RuntimeError: if it ends before, or takes too long; the message has the end of its log.
    """
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.get(server.program.ready)[0] == 200:
                return
        time.sleep(pause)
    raise RuntimeError(f"{server.program.name} did not start:\n{log.read_text()[-2000:]}")


def _end(process: "subprocess.Popen[str]") -> None:
    for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    # Whatever the main process abandoned is in its group, and got the second signal.


@contextlib.contextmanager
def loading(
    server: Server,
    images: Sequence[bytes],
    folder: Path,
    *,
    seconds: float,
    clients: int | None = None,
    rate: float | None = None,
    seed: int = 1,
    answer_timeout: float = 60.0,
) -> Iterator["subprocess.Popen[str]"]:
    """Start the load generator against a server, and end it in the end.

    Args:
        server: gets the load.
        images: take turns.
        folder: for the requests' bytes.
        seconds: of load.
        clients: of a closed loop.
        rate: of an open loop, in requests a second; where it is None, the loop is closed.
        seed: draws the open loop's timetable.
        answer_timeout: seconds after the load in which answers are waited for.
    """
    files = []
    for number, image in enumerate(images):
        files.append(folder / f"{number}.http")
        files[-1].write_bytes(server.program.request(image))
    how = ["--closed", str(clients)] if rate is None else ["--open", str(rate), "--seed", str(seed)]
    command = [sys.executable, "-m", "bench.load", "--port", str(server.port), *how, "--seconds", str(seconds)]
    command += ["--answer-timeout", str(answer_timeout), "--requests", *map(str, files)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as generator:
        try:
            yield generator
        finally:
            generator.kill()


def finished(generator: "subprocess.Popen[str]") -> Samples:
    """Return the samples of a load generator when it has ended.

    Raises:
        RuntimeError: if it failed.
    """
    output, _ = generator.communicate()
    if generator.returncode != 0:
        raise RuntimeError(f"the load generator ended with status {generator.returncode}")
    return Samples(**json.loads(output))


def send_load(server: Server, images: Sequence[bytes], folder: Path, **how: Any) -> Samples:
    """Return the samples of one load; ``how`` as in ``loading``."""
    with loading(server, images, folder, **how) as generator:
        return finished(generator)
