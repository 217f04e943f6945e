"""Clients that are generated from the running service, type-checked, and used: a photo at the first try.

``program.py``, ``program.ts``, ``Program.java`` and ``program.go`` are what docs/clients.md shows.
"""

import hashlib
import importlib.resources
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

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
JARS = [Path("/usr/share/java") / f"{name}.jar" for name in ("httpmime", "geronimo-annotation-1.3-spec")]
"""What the generated Java client needs besides the libraries in the generator's own jar."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of the service with its default weights."""
    patient = Settings(deadline=300, upload_timeout=300)  # what is asked here is not how fast
    with live(create_app(patient, Recognizer.from_weights("ferplus"), SystemClock())) as served:
        yield served.address


def run(
    *command: str | Path, folder: Path, status: int = 0, variables: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Run a command in a folder, hold it to its status, and return what it wrote."""
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", **variables}
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


def _java() -> None:
    if shutil.which("javac") is None:
        pytest.skip("no Java is installed here that compiles, as Debian's default-jdk-headless does")


def _generate(address: str, *options: str, folder: Path) -> None:
    """Generate a client with openapi-generator, which is a Java program."""
    run("openapi-generator-cli", "generate", "-i", f"{address}/openapi.json", *options, folder=folder)


@pytest.fixture(scope="module")
def java(address: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with the Java client and its program, compiled, and the class path that runs it."""
    _java()
    if not all(jar.is_file() for jar in JARS):
        pytest.skip("Debian's libhttpmime-java and libgeronimo-annotation-1.3-spec-java are not installed here")
    folder = tmp_path_factory.mktemp("java")
    options = ["-g", "java", "--library", "native", "--additional-properties", "openApiNullable=false"]
    _generate(address, *options, "-o", "client", folder=folder)
    program = _program("Program.java", address, folder)
    generator = importlib.resources.files("openapi_generator_cli") / "openapi-generator.jar"
    path = os.pathsep.join(["classes", str(generator), *map(str, JARS)])
    sources = sorted((folder / "client/src/main/java").rglob("*.java"))
    run("javac", "-d", "classes", "-classpath", path, program, *sources, folder=folder)
    return folder, path


def test_the_java_client_uploads_a_photo_and_gets_a_typed_problem_for_a_text(java: tuple[Path, str]) -> None:
    folder, path = java
    _photo(folder)
    assert run("java", "-classpath", path, "Program", folder=folder) == "happiness 1.00\n"
    (folder / "face.jpg").write_text("no image")
    problem = run("java", "-classpath", path, "Program", folder=folder, status=1)
    assert problem.startswith("urn:manet:problem:unsupported-image: unsupported image format")


def test_java_s_own_client_which_offers_an_upgrade_uploads_a_photo(address: str, tmp_path: Path) -> None:
    _java()
    program = _program("Upload.java", address, tmp_path)
    _photo(tmp_path)
    (tmp_path / "text").mkdir()
    (tmp_path / "text/face.jpg").write_text("no image")

    photo, again = run("java", program, folder=tmp_path).splitlines()
    text, _ = run("java", program, folder=tmp_path / "text").splitlines()

    asked, answered, status, answer = photo.split(maxsplit=3)
    assert (asked, answered, status) == ("HTTP_2", "HTTP_1_1", "200")
    assert [face["expression"] for face in json.loads(answer)["faces"]] == ["happiness"]
    assert again == photo
    assert text.startswith("HTTP_2 HTTP_1_1 415 ")
    assert '"urn:manet:problem:unsupported-image"' in text


@pytest.fixture(scope="module")
def go(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Go client and its program, compiled."""
    _java()
    if shutil.which("go") is None:
        pytest.skip("Go is not installed here, which compiles the Go client")
    folder = tmp_path_factory.mktemp("go")
    options = ["-g", "go", "--additional-properties", "packageName=manet,withGoMod=false"]
    _generate(address, *options, "-o", "manet", folder=folder)
    _program("program.go", address, folder)
    # Go's standard library alone, nothing from the network, and nothing left in HOME.
    alone = {"HOME": str(folder), "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    run("go", "mod", "init", "faces", folder=folder, variables=alone)
    run("go", "build", "-o", "program", ".", folder=folder, variables=alone)
    return folder


def test_the_go_client_uploads_a_photo_and_gets_a_typed_problem_for_a_text(go: Path) -> None:
    _photo(go)
    assert run("./program", folder=go) == "happiness 1.00\n"
    (go / "face.jpg").write_text("no image")
    problem = run("./program", folder=go, status=1)
    assert problem.startswith("urn:manet:problem:unsupported-image: unsupported image format")
