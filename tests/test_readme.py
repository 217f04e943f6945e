"""Every code block of the README runs, and every figure in it is the registry's or a result file's."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import skimage.data
import torch
from PIL import Image

from manet.labels import CLASS_ORDERS
from manet.nn.model import MANet
from manet.weights.checkpoint import save_weights
from manet.weights.registry import STORE_VARIABLE, get, names
from testing.clips import write_clip
from tests.training.conftest import draw_ferplus
from training import recipe as recipes
from training.run import weights_header

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
    """A folder that holds the README's ``face.jpg`` and ``clip.mp4``."""
    portrait = Image.fromarray(skimage.data.astronaut())
    portrait.save(tmp_path / "face.jpg", quality=95)
    write_clip(tmp_path / "clip.mp4", [portrait.resize((320, 320))] * 5, sounds=("aac",))
    return tmp_path


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The address of the service that ``make serve`` starts, on a free port."""
    plan = ["make", "--no-print-directory", "-n", "serve"]  # quiet also inside `make test`
    command = subprocess.run(plan, cwd=ROOT, capture_output=True, text=True, check=True).stdout
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


def test_there_is_no_block_that_no_test_runs() -> None:
    assert [language for language, _ in BLOCKS] == [
        "text",
        "bash",
        "bash",
        "json",
        "bash",
        "bash",
        "python",
        "bash",
        "ts",
        "bash",
        "python",
        "bash",
        "bash",
        "bash",
        "bash",
    ]
    doors = ("make serve", "curl ", ".venv/bin/manet-serve --help")
    tools = (".venv/bin/manet predict ", ".venv/bin/manet explain ")
    more = (".venv/bin/manet weights import FILE", ".venv/bin/manet-train ", ".venv/bin/torchrun ")
    generators = ("openapi-python-client generate ", "npx openapi-typescript ")
    assert [command for command in COMMANDS if not command.startswith(doors + tools + more + generators)] == []


@pytest.mark.parametrize(("language", "name"), [("python", "program.py"), ("ts", "program.ts")])
def test_the_programs_of_generated_clients_are_those_that_their_tests_run(language: str, name: str) -> None:
    shown = [block for known, block in BLOCKS if known == language]

    assert shown[0] == (ROOT / "tests/clients" / name).read_text()


@pytest.mark.parametrize("generator", ["openapi-python-client generate", "npx openapi-typescript"])
def test_the_commands_that_generate_clients_are_those_that_their_tests_run(generator: str) -> None:
    [command] = [command for command in COMMANDS if command.startswith(generator)]
    run = re.findall(r'"([^"\n]+)"', (ROOT / "tests/clients/test_clients.py").read_text())

    words = [word.replace(ADDRESS, "{address}") for word in command.split()]
    assert [word for word in words if word not in run] == []


def test_the_answer_shown_is_the_answer_given(served: str, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    [command] = [command for command in COMMANDS if command.startswith("curl ")]
    assert ADDRESS in command

    done = _shell(command.replace("curl", "curl --silent --show-error").replace(ADDRESS, served), folder)

    assert done.returncode == 0, done.stderr
    [shown] = [json.loads(block) for language, block in BLOCKS if language == "json"]
    given = json.loads(done.stdout)
    assert (shown["model"], shown["image"]) == (given["model"], given["image"])
    [face], [wanted] = given["faces"], shown["faces"]
    assert list(face) == list(wanted)
    assert face["expression"] == wanted["expression"]
    assert face["box"] == pytest.approx(wanted["box"], abs=1)
    assert face["probabilities"] == pytest.approx(wanted["probabilities"], abs=0.01)
    for name, point in wanted["landmarks"].items():
        assert face["landmarks"][name] == pytest.approx(point, abs=1)


@pytest.mark.parametrize("path", ["/docs", "/model", "/metrics", "/health/live", "/health/ready"])
def test_the_pages_it_names_are_there(served: str, path: str) -> None:
    assert f"`{path}`" in README
    assert httpx.get(served + path).status_code == 200


OTHERS = [c for c in COMMANDS if "manet predict" in c or "manet explain" in c or "--help" in c]


@pytest.mark.parametrize("command", OTHERS)
def test_the_other_commands(command: str, folder: Path) -> None:
    done = _shell(command, folder)

    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).strip()
    assert "--draw" not in command or (folder / "boxes.png").stat().st_size > 1000
    assert "clip.mp4" not in command or "happiness 5" in done.stderr


def test_the_python_block(folder: Path) -> None:
    [_, program] = [block for language, block in BLOCKS if language == "python"]

    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)

    assert re.fullmatch(r"[a-z]+ [01]\.\d+\n", done.stdout)


def test_the_import_of_an_authors_checkpoint(authors_checkpoints: dict[str, Path], folder: Path) -> None:
    [command] = [command for command in COMMANDS if "weights import" in command]

    done = _shell(command.replace("FILE", str(authors_checkpoints["seven"])), folder, **{STORE_VARIABLE: str(folder)})

    assert done.returncode == 0, done.stderr
    assert (folder / "raf_db.safetensors").is_file()


TRAINING = [command for command in COMMANDS if "manet-train" in command or "torchrun" in command]


def test_the_commands_that_train_the_default_weights(tmp_path: Path) -> None:
    fit, resume, refine, evaluate, pack = TRAINING[4:]
    votes = [[8 * (column == k) for column in range(10)] for k in (0, 1, 4)]
    rows = [("Training", f"t{i}.png", votes[i % 3]) for i in range(200)]
    rows += [("PublicTest", f"v{i}.png", votes[i % 3]) for i in range(6)]
    draw_ferplus(tmp_path / "DIR", rows)
    header = weights_header(recipes.load("ferplus"), CLASS_ORDERS["ferplus"], "random")
    assert header is not None
    for command in (fit, resume, refine):
        line = f"exec {command} --threads 1".replace(".venv/bin/", f"{HERE}/")
        with subprocess.Popen(line, shell=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "200 training and 6 valid images" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert "stopped and saved" in process.stdout.read()
            assert process.wait(timeout=60) == 0
        for run in ("RUN", "RUN2"):
            if (tmp_path / run).is_dir():
                save_weights(MANet(8), tmp_path / run / "best.safetensors", header)

    for command in (evaluate, pack):
        done = _shell(command, tmp_path)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "valid.json").read_text())["n"] == 6
    assert (tmp_path / "ferplus.safetensors").stat().st_size < 55e6


SMALL = " --set epochs=1 --set input_size=32 --set batch_size=8"
"""What makes the authors' recipes fit a test."""


def _portraits(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(skimage.data.astronaut()).save(folder / f"{number:04}.png", compress_level=1)


def test_the_commands_that_repeat_a_figure_of_the_paper(tmp_path: Path) -> None:
    fit, report, _, _ = TRAINING[:4]
    for split, number in (("train", 8), ("test", 4)):
        for label in range(7):
            folder = tmp_path / f"DIR/{split}/{label}"
            folder.mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (40, 40), (30 * label, 20 * i, 60)).save(folder / f"{i}.png")
    torch.save({"state_dict": MANet(12).state_dict()}, tmp_path / "Pretrained_on_MSCeleb.pth.tar")

    done = _shell(fit + SMALL, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "; the authors then had 71.87 %" in done.stdout
    done = _shell(report, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| the authors' published log | 88.40 @ 29 |" in (tmp_path / "reports/raf_db/report.md").read_text()


def test_the_commands_for_film_frames_and_many_devices(tmp_path: Path) -> None:
    prepare, torchrun = TRAINING[2:4]
    _portraits(tmp_path / "FRAMES/train/Happy", 8)
    _portraits(tmp_path / "FRAMES/test/Happy", 2)

    done = _shell(prepare, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "10 faces" in done.stdout
    done = _shell(torchrun + SMALL, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished") == 1


@pytest.mark.parametrize("name", names())
def test_the_table_of_weights_is_the_registry(name: str) -> None:
    weights = get(name)
    [row] = [line for line in README.splitlines() if line.startswith(f"| `{name}` |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    figures = next(iter((*weights.measured, *weights.published)))

    assert cells[2] == f"{weights.preprocessing.input_size} px, {weights.preprocessing.colour}"
    assert f"{figures.n:,} images" in cells[3]
    assert ("measured here" if weights.measured else "published") in cells[3]
    assert cells[4] == f"{figures.accuracy:.2f}"
    assert cells[5] == ("-" if figures.macro_recall is None else f"{figures.macro_recall:.2f}")
    assert cells[6] == ("yes" if weights.shipped else "import it")


def test_the_figures_of_speed_are_those_of_the_result_files() -> None:
    results = ROOT / "bench/results"
    assert (results / "benchmark.md").read_text().strip() in README
    rows = [json.loads(path.read_text()) for path in results.glob("*.json")]
    measured = [row for row in rows if "row" in row]
    assert {row["row"] for row in measured} >= {
        "crops",
        "photographs",
        "overload",
        "one_client",
        "null_backend",
        "start",
    }
    for row in measured:
        assert f"`{row['commit'][:7]}`" in README
        assert row["machine"]["cores"] == 2
    engines = json.loads((results / "engines.json").read_text())
    assert f"`{engines['commit'][:7]}`" in README
    alone, full = ({row["way"]: row for row in engines["rows"] if row["batch"] == batch} for batch in (1, 32))
    for way, row in full.items():
        assert f"| {way} | {alone[way]['images_per_second']} | {row['images_per_second']} |" in README
    stream = json.loads((results / "stream.json").read_text())
    assert f"`{stream['commit'][:7]}`" in README


def test_the_accuracy_shown_names_where_it_was_measured() -> None:
    result = json.loads((ROOT / "training/reports/ferplus/valid.json").read_text())
    [figures] = get("ferplus").measured

    assert figures.source == "training/reports/ferplus/valid.json"
    assert figures.source in README
    assert f"`{result['commit'][:7]}`" in README
    assert not result["commit"].endswith("-dirty")
    assert result["weights"]["sha256"] == get("ferplus").sha256
    assert figures.accuracy == round(result["accuracy"], 2)
    assert figures.macro_recall == round(result["macro_recall"], 2)
