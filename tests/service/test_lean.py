"""Without PyTorch: what serves and predicts loads nothing of it, and what needs it says which extra to install."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

ROOT = Path(__file__).parents[2]
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'captum']))"
"""Has a process find none of them, as in a lean installation."""

SERVE = """
import asyncio
import sys

import httpx

from service.app import create_app
from service.clock import SystemClock
from service.inference.engine import load_recognizer
from service.settings import Settings


async def main() -> None:
    settings = Settings()
    app = create_app(settings, load_recognizer(settings), SystemClock())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            for route in sys.argv[2:]:
                with open(sys.argv[1], "rb") as image:
                    answer = await client.post(route, files={"image": image})
                print(answer.status_code, answer.text)
    print(sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "torchvision")))


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "face.jpg"
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(buffer, "JPEG", quality=95)
    path.write_bytes(buffer.getvalue())
    return path


def _python(program: str, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MANET_")}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env=environment | {"MANET_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_serving_on_a_processor_loads_no_module_of_pytorch(photo: Path) -> None:
    answer, loaded = _python(SERVE, photo, "/predict").stdout.splitlines()

    assert answer.startswith("200 ")
    assert '"expression":"happiness"' in answer
    assert loaded == "[]"


def test_without_pytorch_it_answers_and_an_explanation_names_the_extra(photo: Path) -> None:
    answer, explanation, _ = _python(f"{BLOCKED}\n{SERVE}", photo, "/predict", "/explain").stdout.splitlines()

    assert answer.startswith("200 ")
    assert explanation.startswith("501 ")
    assert "pip install 'manet[explain]'" in explanation


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("manet.__main__", ("weights", "import", "x.pth", "--dataset", "raf_db"), "gpu"),
        ("manet.__main__", ("explain", "x.jpg"), "explain"),
        ("training.__main__", ("fit", "ferplus"), "train"),
    ],
)
def test_a_command_that_needs_pytorch_names_the_extra(module: str, arguments: tuple[str, ...], extra: str) -> None:
    program = f"{BLOCKED}\nfrom {module} import main\nsys.argv[0] = 'program'\nmain()"

    done = _python(program, *arguments, status=2)

    said = " ".join(done.stderr.replace("│", " ").split())
    assert f"pip install 'manet[{extra}]'" in said


def test_a_name_of_the_package_that_needs_pytorch_names_the_extra() -> None:
    program = f"""{BLOCKED}
import manet
try:
    manet.MANet
except ModuleNotFoundError as error:
    print(error)
print(manet.Recognizer.__name__)
"""
    done = _python(program)

    assert done.stdout.splitlines() == [
        "manet.MANet needs PyTorch, which is not installed: pip install 'manet[gpu]'",
        "Recognizer",
    ]
