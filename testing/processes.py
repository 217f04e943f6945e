"""The service as a process: around fakes, or with the weights that ship."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parents[1]

PROGRAM = """
import sys
from threading import Thread

from service.server import server
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings
from testing.fakes import FakeBackend, recognizer

backend = FakeBackend()
if sys.argv[1] == "held":
    backend.gate.clear()
    Thread(target=lambda: sys.stdin.readline() and backend.gate.set(), daemon=True).start()
settings = Settings(port=0, shutdown_timeout=10, max_batch_size=1, max_upload_bytes=1_000_000)
server(create_app(settings, recognizer(backend), SystemClock()), settings).run()
"""


def metric(address: str, name: str) -> float:
    """Return a metric of the service at an address."""
    text = httpx.get(f"{address}/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"there is no metric {name}"
    return float(found[1])


def runs(pid: int) -> bool:
    """Return whether a process runs; one that has ended and was not waited for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def listens(port: int) -> bool:
    """Return whether connections to a port of this machine are taken."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def sending(address: str, image: bytes) -> socket.socket:
    """Return a connection to the service at an address, on which an image was sent to be answered."""
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + image + b"\r\n--x--\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(form) + form)
    return connection


@dataclass
class Service:
    """A running process and its address."""

    process: "subprocess.Popen[str]"
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metric(self, name: str) -> float:
        return metric(self.address, name)

    def wait_for(self, name: str, value: float) -> None:
        end = time.monotonic() + 20
        while (found := self.metric(name)) != value:
            assert time.monotonic() < end, f"{name} is {found}, not {value}"
            time.sleep(0.01)

    def let_go(self) -> None:
        """Let the network, which was held, answer from here on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def serving(*, held: bool) -> Iterator[Service]:
    """Run the service around fakes.

    Args:
        held: whether the network keeps its first batch until it is let go, however slow the machine is.
    """
    command = [sys.executable, "-c", PROGRAM, "held" if held else "free"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stderr=pipe, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                    yield Service(process, int(found[1]))
                    break
            else:
                raise AssertionError("the service did not start")
        finally:
            process.kill()


@contextlib.contextmanager
def manet_serve() -> Iterator[str]:
    """Run ``manet-serve`` on a free port and yield its address; in the end it must stop with status 0."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("manet-serve")), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(address, process)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def free_port() -> int:
    """Return a TCP port on which nothing listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until_ready(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the service at an address is ready, which a process runs."""
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/health/ready").status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError("the service did not become ready")
