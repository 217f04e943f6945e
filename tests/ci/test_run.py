"""``.ci/run``: as on a new machine, with the status of what it runs, and nothing of it is left."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEW = "As on a new machine"


def _apart() -> bool:
    """Whether namespaces can be had here, as ``.ci/run`` needs them."""
    mount = ["mount", "-t", "tmpfs", "none", "/dev/shm"]
    command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", *mount]
    return (
        None not in (shutil.which("unshare"), shutil.which("setpriv"))
        and os.getuid() == 0
        and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


apart = pytest.mark.skipif(os.name == "nt" or not _apart(), reason="no root, or no namespaces")


class Checkout:
    """A checkout with ``.ci`` and a Makefile of the test's, on a machine that has been used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.home = folder / "home"
        tools = folder / "tools"
        for made in (self.folder, self.home, tools):
            made.mkdir()
        (tools / "apt-get").touch(mode=0o755)  # or what is not here would be installed
        shutil.copytree(ROOT / ".ci", self.folder / ".ci")
        (self.home / "old").touch()
        others = ("MAKE", "MFLAGS", "PYTHON", "XDG_")
        given = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        self.environment = {**given, "HOME": str(self.home), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    def start(self, test: str, *arguments: str, install: str = "true") -> "subprocess.Popen[str]":
        """Start ``.ci/run`` with these commands as the recipes of ``make install`` and ``make test-ci``."""
        (self.folder / "Makefile").write_text(f"install:\n\t@{install}\ntest-ci:\n\t@{test}\n")
        # A shell that starts the tests in the background has them ignore SIGINT, and nohup has them ignore SIGHUP; a
        # script cannot undo that for itself.
        command = ["env", "--default-signal=INT,HUP", "bash", str(self.folder / ".ci/run"), *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, env=self.environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def run(self, test: str, *arguments: str, install: str = "true") -> tuple[int, list[str]]:
        """Return its status and what it wrote, make's own lines left out."""
        process = self.start(test, *arguments, install=install)
        told, _ = process.communicate(timeout=60)
        return process.returncode, [line for line in told.splitlines() if not line.startswith("make")]


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    # Not in pytest's own folder, where files are expected.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Checkout(Path(folder))


@apart
def test_it_says_first_whether_it_runs_as_on_a_new_machine_and_leaves_nothing(checkout: Checkout) -> None:
    with tempfile.NamedTemporaryFile(dir="/tmp") as old:
        status, told = checkout.run(f"test ! -e {old.name} && echo $$HOME && find $$HOME /dev/shm -mindepth 1")

    assert status == 0
    first, home = told
    assert first.startswith(NEW)
    assert not Path(home).parent.exists()
    assert str(checkout.folder) not in Path("/proc/self/mounts").read_text()


@apart
def test_home_holds_the_settings_of_pip_and_npm_and_nothing_else(checkout: Checkout) -> None:
    settings = {".config/pip/pip.conf": "[global]\n", ".npmrc": "fund=false\n"}
    for name, content in {**settings, ".config/other": "", ".cache/pip/old": "", ".npm/old": ""}.items():
        (checkout.home / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout.home / name).write_text(content)

    _, told = checkout.run("cd $$HOME && find . -type f && cat .config/pip/pip.conf .npmrc")

    assert sorted(told[1:]) == sorted([*(f"./{name}" for name in settings), "[global]", "fund=false"])


@apart
def test_variables_of_python_are_those_that_it_was_given(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout.environment |= {"PYTHONPATH": "/nowhere", "XDG_CACHE_HOME": "/nowhere", "PIP_TIMEOUT": "7"}

    _, told = checkout.run("env | grep -E '^(PYTHON|XDG|PIP_TIMEOUT)' | sort", "PYTHONHASHSEED=3")

    assert [line for line in told[1:] if not line.startswith("PYTHON=")] == ["PIP_TIMEOUT=7", "PYTHONHASHSEED=3"]


@apart
@pytest.mark.parametrize("target", ["install", "test"])
def test_what_fails_fails_it(checkout: Checkout, target: str) -> None:
    commands = {"install": "true", "test": "true", target: "echo $$HOME; exit 3"}

    status, told = checkout.run(commands["test"], install=commands["install"])

    assert status == 2  # make's own for a recipe that failed
    assert not Path(told[1]).parent.exists()


@apart
@pytest.mark.parametrize("place", ["$$HOME", "/tmp", "/dev/shm", "."])
def test_a_file_that_a_test_leaves_fails_it_by_name(checkout: Checkout, place: str) -> None:
    status, told = checkout.run(f"mkdir -p {place}/new && touch {place}/new/file")

    assert status == 1
    assert told[1] == "Left over and not expected:"
    assert [line.endswith("/new/file") for line in told[2:]] == [True]


@apart
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_interrupted_it_leaves_no_folder_and_no_process(checkout: Checkout, stop: signal.Signals) -> None:
    name = f"{time.monotonic_ns()}.5"  # seconds
    begun = checkout.folder / "begun"
    process = checkout.start(f"echo $$HOME > writing; mv writing begun; setsid sleep {name} & sleep {name}")
    _until(begun.exists)
    work = Path(begun.read_text().strip()).parent

    process.send_signal(stop)

    process.communicate(timeout=30)
    _until(lambda: not any(name in command for command in _commands()))
    if stop == signal.SIGKILL:  # which no process can answer by removing a folder
        assert process.returncode == -stop
        shutil.rmtree(work)
    else:
        assert process.returncode == 128 + stop
        assert not work.exists()


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _commands() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            yield path.read_text()


@pytest.mark.skipif(os.name == "nt", reason="needs bash")
def test_without_namespaces_it_runs_as_it_is_and_says_so(checkout: Checkout) -> None:
    refused = Path(checkout.environment["PATH"].split(os.pathsep)[0]) / "unshare"
    refused.write_text("#!/bin/sh\nexit 1\n")
    refused.chmod(0o755)

    status, told = checkout.run("echo $$HOME; exit 3", "PYTHONHASHSEED=3")

    assert status == 2
    assert told[0].startswith("As this machine is")
    assert told[1:] == [str(checkout.home)]
