"""No program of ours looks up a name, sends anything to another machine, or leaves files in the user's folders.

Each runs under strace with ``CI`` unset: some libraries are silent where it is set.
"""

import contextlib
import ipaddress
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import skimage.data
from PIL import Image

from testing.clips import write_clip
from testing.compose import inspect, missing
from testing.data_sets import draw_ferplus_tree
from testing.live import until
from testing.processes import ROOT, free_port, wait_until_ready
from testing.weights import NARROW

pytestmark = pytest.mark.slow

NO_ENGINE = missing()

PLACES = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
DNS = 53
CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)")
ADDRESSES = (
    re.compile(r'htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)'),
    re.compile(r'htons\((\d+)\),.* inet_pton\(AF_INET6, "([^"]+)"'),
)
PEER = re.compile(r"<(?:TCP|UDP)(?:v6)?:\[.*->\[?([0-9a-f.:]+?)\]?:(\d+)\]>")


@dataclass(frozen=True)
class Watched:
    """How a program is run, and where its system calls are noted."""

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "strace.log"

    @property
    def prefix(self) -> list[str]:
        """Return what comes before the command."""
        return [*self._strace, "--seccomp-bpf"]

    def attached(self, pid: str) -> list[str]:
        """Return the command that watches a process which runs already."""
        return [*self._strace, "-p", pid]

    @property
    def _strace(self) -> list[str]:
        calls = "trace=connect,sendto,sendmsg,sendmmsg"
        return ["strace", "-f", "-yy", "-qq", "-e", calls, "-e", "signal=none", "-o", str(self.log)]

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of a user's shell, whose folders are empty ones."""
        environment = {name: value for name, value in os.environ.items() if name not in {"CI", "MPLCONFIGDIR"}}
        for place in PLACES:
            (self.folder / place).mkdir(exist_ok=True)
            environment[place] = str(self.folder / place)
        return environment

    def run(self, *command: str | Path) -> None:
        """Run a program to its end."""
        done = subprocess.run(
            [*self.prefix, *map(str, command)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def calls_elsewhere(self) -> list[str]:
        """Return the calls that send something to another machine, or to a server of names."""
        return [line for line in self.log.read_text().splitlines() if _leaves(line)]

    def files(self) -> list[Path]:
        """Return what was left in the user's folders, but for the list of fonts that Captum's Matplotlib makes."""
        found = (path for place in PLACES for path in (self.folder / place).rglob("*") if path.is_file())
        return [path for path in found if not path.match("matplotlib/fontlist-*.json")]


def _leaves(line: str) -> bool:
    call = CALL.match(line)
    if call and call[1] == "connect" and "<UDP" in line:
        return False  # chooses an address and sends nothing; what it sends comes later
    told = [(address, int(port)) for pattern in ADDRESSES for port, address in pattern.findall(line)]
    if call and call[1] != "connect":
        told += [(address, int(port)) for address, port in PEER.findall(line)]
    return any(port == DNS or not _is_own(address) for address, port in told)


def _is_own(address: str) -> bool:
    own = {found.address.partition("%")[0] for card in psutil.net_if_addrs().values() for found in card}
    given = ipaddress.ip_address(address)
    given = getattr(given, "ipv4_mapped", None) or given
    return given.is_loopback or str(given) in own


@pytest.fixture
def watched() -> Iterator[Watched]:
    """What watches one program; its folder has a short name, as the sockets in it must have."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace on this machine")
    with tempfile.TemporaryDirectory() as folder:
        found = Watched(Path(folder))
        if subprocess.run([*found.prefix, "true"], capture_output=True, check=False).returncode:
            pytest.skip("strace may not watch processes on this machine")
        yield found


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """A photograph with a face."""
    (tmp_path / "images").mkdir()
    path = tmp_path / "images/portrait.jpg"
    Image.fromarray(skimage.data.astronaut()).save(path)
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A short film of it."""
    return write_clip(tmp_path / "clip.mp4", [Image.fromarray(skimage.data.astronaut())] * 3)


def _program(name: str) -> Path:
    return Path(sys.executable).with_name(name)


@contextlib.contextmanager
def _served(watched: Watched, *arguments: str) -> Iterator[str]:
    port = free_port()
    # The first explanation loads PyTorch, which takes long where other tests run, too.
    command = [*watched.prefix, str(_program("manet-serve")), "--port", str(port), "--deadline", "120", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=watched.environment) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            [served] = psutil.Process(process.pid).children()
            served.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        "socket.create_connection(('192.0.2.1', 9), 0.1)",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
        "s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('192.0.2.1', 9)); s.send(b'x')",
        "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 9))",
        "s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.53', 53))",
    ],
)
def test_what_should_not_be_would_be_seen(watched: Watched, wrong: str) -> None:
    program = f"import contextlib, socket\nwith contextlib.suppress(OSError):\n    {wrong}"

    watched.run(sys.executable, "-c", program)

    assert watched.calls_elsewhere()


def test_what_stays_on_the_machine_is_let_be(watched: Watched) -> None:
    program = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
    client.sendall(b"x")
    socket.socket(type=socket.SOCK_DGRAM).connect(("192.0.2.1", 9))  # how a program asks for its own address
"""
    watched.run(sys.executable, "-c", program)

    assert "connect" in watched.log.read_text()
    assert watched.calls_elsewhere() == []


def test_manet(watched: Watched, portrait: Path, clip: Path, authors_checkpoints: Mapping[str, Path]) -> None:
    for arguments in (
        ("weights", "list"),
        ("weights", "import", authors_checkpoints["seven"], "--dataset", "raf_db", "--store", watched.folder / "store"),
        ("predict", portrait),
        (
            "predict",
            portrait.parent,
            "--out",
            watched.folder / "answers.jsonl",
            "--sheet",
            watched.folder / "sheet.png",
        ),
        ("predict", clip, "--out", watched.folder / "clip.csv"),
        ("explain", portrait, "--out", watched.folder / "maps"),
    ):
        watched.run(_program("manet"), *arguments)
        assert watched.calls_elsewhere() == [], arguments
    assert watched.files() == []


def test_manet_on_ray(watched: Watched, portrait: Path) -> None:
    watched.run(_program("manet"), "predict", portrait.parent, "--executor", "ray", "--out", watched.folder / "answers")

    assert watched.calls_elsewhere() == []
    logs = watched.folder / "TMPDIR" / "ray"
    key = watched.folder / "HOME" / ".ray" / "auth_token"
    assert [path for path in watched.files() if logs not in path.parents and path != key] == [], "but for Ray's own"


@pytest.mark.long
def test_ray_serve(watched: Watched, portrait: Path) -> None:
    with _ray_node(watched) as (node, environment):
        port = free_port()
        for command in (
            ("start", "--address", node, "--http-port", str(port)),
            (
                "run",
                "--address",
                node,
                "--non-blocking",
                "service.ray_app:app",
                "replica_cpus=1",
                "replica_memory=1000",
            ),
        ):
            subprocess.run([_program("serve"), *command], cwd=ROOT, env=environment, check=True, timeout=120)
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", files={"image": portrait.read_bytes()}, timeout=120)
        assert answer.status_code == 200, answer.text

    assert watched.calls_elsewhere() == []


@pytest.mark.skipif(NO_ENGINE is not None, reason=str(NO_ENGINE))
@pytest.mark.timeout(1800)
def test_the_docker_image(watched: Watched, portrait: Path) -> None:
    subprocess.run(["docker", "compose", "build", "manet"], cwd=ROOT, capture_output=True, check=True)
    port, name = free_port(), f"manet-{secrets.token_hex(4)}"
    # It waits for a line, so that it is watched from its first call on, and makes one that must be seen.
    own = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    shell = f'read line; python -c "{own}"; exec manet-serve --allow-anonymous true'
    program = ("--entrypoint", "sh", "manet:cpu", "-c", shell)
    command = ["docker", "run", "--rm", "--interactive", "--name", name, "--publish", f"127.0.0.1:{port}:8000"]
    with subprocess.Popen([*command, *program], stdin=subprocess.PIPE) as container:
        try:
            first = _first_process(container, name)
            with subprocess.Popen(watched.attached(first)):
                until(lambda: "TracerPid:\t0\n" not in Path(f"/proc/{first}/status").read_text())
                assert container.stdin is not None
                container.stdin.write(b"go\n")
                container.stdin.flush()
                address = f"http://127.0.0.1:{port}"
                wait_until_ready(address, container)
                answer = httpx.post(f"{address}/predict", files={"image": portrait.read_bytes()}, timeout=120)
                assert answer.status_code == 200, answer.text
                written = subprocess.run(["docker", "diff", name], capture_output=True, text=True, check=True).stdout
                subprocess.run(["docker", "stop", name], capture_output=True, check=True)
        finally:
            subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)

    assert "connect" in watched.log.read_text()
    assert watched.calls_elsewhere() == []
    assert written == ""


def _first_process(container: "subprocess.Popen[bytes]", name: str) -> str:
    """Return the number that a container's first process has outside, once it runs."""

    def running() -> bool:
        assert container.poll() is None
        with contextlib.suppress(subprocess.CalledProcessError):  # the engine does not know it yet
            return bool(inspect(name)["State"]["Running"])
        return False

    until(running, seconds=120)
    return str(inspect(name)["State"]["Pid"])


@contextlib.contextmanager
def _ray_node(watched: Watched) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the address of a node of Ray that is watched with all its processes, and the environment to use it in."""
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(watched.folder / "ray")}
    environment, port = watched.environment | settings, free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:  # keeps Ray's dashboard out (``manet.offline.pipeline``)
        dashboard = f"--dashboard-port={taken.getsockname()[1]}"
        command = [*watched.prefix, str(_program("ray")), "start", "--head", "--block", f"--port={port}", dashboard]
        with subprocess.Popen(command, cwd=ROOT, env=environment) as node:
            try:
                yield f"127.0.0.1:{port}", environment
            finally:
                for process in psutil.Process(node.pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()


@pytest.mark.parametrize("arguments", [(), ("--front-ends", "2")], ids=["one process", "front ends"])
def test_manet_serve(watched: Watched, portrait: Path, arguments: tuple[str, ...]) -> None:
    with _served(watched, *arguments) as address, httpx.Client(base_url=address, timeout=120) as client:
        for path in ("/predict", "/explain"):
            answer = client.post(path, files={"image": portrait.read_bytes()})
            assert answer.status_code == 200, answer.text
        for path in ("/", "/docs", "/metrics", "/model", "/openapi.json"):
            assert client.get(path).status_code == 200, path
        time.sleep(1)  # what is sent in the background has time to be

    assert watched.calls_elsewhere() == []
    assert watched.files() == []


def test_manet_train(watched: Watched) -> None:
    fields = ("epochs=1", "epoch_sizes=[32]", "input_size=32", "batch_size=6", f"width={NARROW}")
    changes = [
        word
        for field in (*fields, "schedule.cycles=[{epochs=1, max_lr=0.05, warmup=0.2}]")
        for word in ("--set", field)
    ]
    run = watched.folder / "run"
    commands: tuple[tuple[str | Path, ...], ...] = (
        ("fit", "ferplus", "--data", draw_ferplus_tree(watched.folder), "--out", run, *changes),
        ("report", run, "--out", watched.folder / "report"),
    )
    for arguments in commands:
        watched.run(_program("manet-train"), *arguments)
        assert watched.calls_elsewhere() == [], arguments
    assert watched.files() == []
