"""Every code block of the README runs, and every figure in it is the registry's or a result file's."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import skimage.data
from PIL import Image

from manet.weights import get, names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
HERE = Path(sys.executable).parent
ADDRESS = "http://127.0.0.1:8000"


def _shell(command: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the README where its reader would, with this environment in the place of ``.venv``."""
    command = command.replace(".venv/bin/", f"{HERE}/")
    environment = {**os.environ, "COLUMNS": "120", **settings}
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds the README's ``face.jpg``."""
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "face.jpg", quality=95)
    return tmp_path


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The address of the service that ``make serve`` starts, on a free port."""
    command = subprocess.run(["make", "-n", "serve"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert command.splitlines()[-1] == ".venv/bin/manet-serve"
    with serving() as address:
        yield address


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run ``manet-serve`` until its job is done; it must leave with status 0."""
    port = _free_port()
    command = [str(HERE / "manet-serve"), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            _until_ready(address, process)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def _free_port() -> int:
    import socket  # noqa: PLC0415

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _until_ready(address: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/health/ready").status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError("the service did not become ready")
