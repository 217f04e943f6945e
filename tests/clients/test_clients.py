"""Clients that are generated from the running service, type-checked, and used: a photo at the first try.

``program.py`` and ``program.ts`` are what docs/clients.md shows.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from manet.recognizer import Recognizer
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings
from testing.live import live

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TOOLS = Path(sys.executable).parent
SHOWN = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of the service with its default weights."""
    patient = Settings(deadline=300, upload_timeout=300)  # what is asked here is not how fast
    with live(create_app(patient, Recognizer.from_weights("ferplus"), SystemClock())) as served:
        yield served.address


def run(*command: str | Path, folder: Path, status: int = 0) -> str:
    """Run a command in a folder, hold it to its status, and return what it wrote."""
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def _program(name: str, address: str, folder: Path) -> Path:
    """Copy a program into a folder, for this service's address."""
    text = (HERE / name).read_text()
    assert SHOWN in text
    (folder / name).write_text(text.replace(SHOWN, address))
    return folder / name


def _photo(folder: Path) -> None:
    Image.fromarray(skimage.data.astronaut()).save(folder / "face.jpg", quality=95)


@pytest.fixture(scope="module")
def python(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Python client and its program."""
    folder = tmp_path_factory.mktemp("python")
    generate = ["openapi-python-client", "generate", "--url", f"{address}/openapi.json", "--meta", "none"]
    run(*generate, "--output-path", "ma_net_client", "--fail-on-warning", folder=folder)
    _program("program.py", address, folder)
    return folder


def test_the_python_client_and_its_program_are_typed(python: Path) -> None:
    # Strict but for one habit of the generator's own template, which hands __exit__ on as a bare tuple.
    lenient = "[mypy-ma_net_client.client]\ndisable_error_code = arg-type\n"
    (python / "mypy.ini").write_text(f"[mypy]\nstrict = true\n{lenient}")

    told = run(sys.executable, "-m", "mypy", "-m", "program", "-p", "ma_net_client", folder=python)

    assert "no issues found" in told


def test_the_python_client_uploads_a_photo_and_gets_a_typed_problem_for_a_text(python: Path) -> None:
    _photo(python)
    assert run(sys.executable, "program.py", folder=python) == "happiness 1.00\n"
    (python / "face.jpg").write_text("no image")
    problem = run(sys.executable, "program.py", folder=python, status=1)
    assert problem.startswith("urn:manet:problem:unsupported-image: unsupported image format")


@pytest.fixture(scope="module")
def typescript(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the TypeScript client and its program."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed here, which generates and checks the TypeScript client")
    _install()
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "node_modules").symlink_to(HERE / "node_modules")
    for name in ("package.json", "tsconfig.json"):
        shutil.copy(HERE / name, folder)
    _program("program.ts", address, folder)
    run("npx", "openapi-typescript", f"{address}/openapi.json", "--output", "manet.d.ts", folder=folder)
    return folder


def _install() -> None:
    """Install what ``package-lock.json`` names, unless that was done."""
    done = HERE / "node_modules/.installed"
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if not done.is_file() or done.read_text() != wanted:
        run("npm", "ci", "--no-audit", "--no-fund", folder=HERE)
        done.write_text(wanted)


def test_the_typescript_client_uploads_a_photo_and_gets_a_typed_problem_for_a_text(typescript: Path) -> None:
    _photo(typescript)
    run("npx", "tsc", "--project", ".", folder=typescript)
    assert run("node", "program.js", folder=typescript) == "happiness 1.00\n"
    (typescript / "face.jpg").write_text("no image")
    problem = run("node", "program.js", folder=typescript, status=1)
    assert "urn:manet:problem:unsupported-image: unsupported image format" in problem


@pytest.mark.parametrize(("right", "wrong"), [("face.expression", "face.mood"), ("error.detail", "error.message")])
def test_the_typescript_types_know_what_an_answer_and_a_problem_have(typescript: Path, right: str, wrong: str) -> None:
    text = (typescript / "program.ts").read_text()
    assert right in text
    (typescript / "wrong.ts").write_text(text.replace(right, wrong))
    strict = ["--noEmit", "--strict", "--module", "NodeNext", "--target", "ES2022", "--types", "node"]

    told = run("npx", "tsc", *strict, "wrong.ts", folder=typescript, status=2)

    assert f"Property '{wrong.partition('.')[2]}' does not exist" in told
