"""The wheel: what ``python -m build`` makes, by itself, in a place where this source tree is not to be seen.

The empty environment is a virtual environment with nothing in it but the wheel. Its dependencies are not installed a
second time (PyTorch alone is 5.5 GB): it borrows them, by a ``.pth`` file, from the environment that runs the tests;
that one's own editable install of this project is not borrowed, because ``.pth`` files in a borrowed folder are not
read. So this proves that the wheel is complete, works from where pip puts it and needs no other host; it does not
prove that its list of dependencies is complete. The build of the image does that.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import httpx
import pytest
import skimage.data
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PACKAGES = ("manet", "service", "training")
LARGEST = 60e6
NOT_SHIPPED = {"training/reports", "training/published_runs/README.md"}
"""What lies in a package's folder for readers of the source tree."""

OFFLINE = """
import socket

connect = socket.socket.connect


def local_only(self, address):
    if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
        raise OSError(f"a connection to {address[0]} was tried")
    return connect(self, address)


socket.socket.connect = local_only
"""


def _run(*command: str | Path, folder: Path, **settings: str) -> str:
    environment = {**os.environ, **settings}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by way of the source distribution, out of a copy that holds what the build needs."""
    source = tmp_path_factory.mktemp("source")
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", folder=source)
    [made] = (source / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that has the wheel, and borrows what it depends on."""
    home = tmp_path_factory.mktemp("empty")
    venv.create(home, symlinks=True)
    python = home / "bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    # Pip asks rustc for its version, and a rustc of rustup's writes its settings into HOME.
    _run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=home, HOME=str(home))
    [packages] = home.glob("lib/python3*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "sitecustomize.py").write_text(OFFLINE)
    found = _run(python, "-c", "import manet, service, training; print(manet.__file__)", folder=home)
    assert Path(found.strip()).is_relative_to(packages)
    return home / "bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo in it."""
    folder = tmp_path_factory.mktemp("user")
    Image.fromarray(skimage.data.astronaut()).save(folder / "face.jpg", quality=95)
    return folder


def test_it_is_small_enough_to_hand_around(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST


def test_it_holds_the_packages_and_all_their_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    here = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted = {name for name in here if not any(name.startswith(left_out) for left_out in NOT_SHIPPED)}

    assert {name for name in names if ".dist-info/" not in name} >= wanted
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    for name in ("ferplus.safetensors", "ferplus.int8.safetensors", "retinaface.onnx", "MODEL_CARD.md"):
        assert f"manet/weights/assets/{name}" in names
    assert {
        "manet/weights/assets/retinaface.LICENSE",
        "training/recipes/ferplus.toml",
        "service/web/page.html",
        "service/web/main.js",
    } <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_it_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    facts = HeaderParser().parsestr(archive.read(name).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [programs] = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]

    assert (facts["Name"], facts["Version"]) == ("manet", project["version"])
    assert facts["License-Expression"] == "MIT"
    assert {Path(file).name for file in facts.get_all("License-File") or []} == {"LICENSE", "retinaface.LICENSE"}
    assert all(f"{program} = " in archive.read(programs).decode() for program in project["scripts"])


def test_it_answers_without_another_host_from_an_empty_environment(installed: Path, folder: Path) -> None:
    answer = _run(installed / "manet", "predict", "face.jpg", "--json", folder=folder, XDG_CACHE_HOME=str(folder))

    [face] = json.loads(answer)["faces"]
    assert face["expression"] == "happiness"


def test_it_serves_from_an_empty_environment(installed: Path, folder: Path) -> None:
    with _serving(installed, folder) as address:
        with (folder / "face.jpg").open("rb") as image:
            answer = httpx.post(f"{address}/predict", files={"image": image}, timeout=60)

        assert answer.status_code == 200
        assert [face["expression"] for face in answer.json()["faces"]] == ["happiness"]


@contextlib.contextmanager
def _serving(programs: Path, folder: Path) -> Iterator[str]:
    """Run ``manet-serve`` on a port that the system chooses, and yield its address."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "MANET_PORT": "0"}
    log = folder / "served.log"
    with (
        log.open("w") as written,
        subprocess.Popen([programs / "manet-serve"], cwd=folder, env=environment, stderr=written) as process,
    ):
        try:
            end = time.monotonic() + 120
            while "running on " not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, "the service did not start"
                time.sleep(0.1)
            yield log.read_text().split("running on ")[1].split()[0]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
