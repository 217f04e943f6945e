"""Every code block of the README runs, and its table of weights is the registry's."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import skimage.data
from PIL import Image

from manet.weights.registry import STORE_VARIABLE, get, names
from testing.clips import write_clip
from testing.documents import ADDRESS, README, ROOT, run_command
from testing.processes import manet_serve


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
    with manet_serve() as address:
        yield address


def test_every_block_is_run_by_a_test() -> None:
    run_here = ("make serve", "curl ", ".venv/bin/manet-serve --help", ".venv/bin/manet weights import FILE")
    tools = (".venv/bin/manet predict ", ".venv/bin/manet explain ")
    training = (
        ".venv/bin/manet-train fit raf_db",
        ".venv/bin/manet-train report",
    )  # tests/training/test_training_page.py

    assert {language for language, _ in README.blocks} == {"bash", "json", "python", "bibtex"}
    assert [command for command in README.commands if not command.startswith((*run_here, *tools, *training))] == []


def test_it_is_short() -> None:
    assert len(README.text.splitlines()) <= 180


def test_the_answer_shown_is_the_answer_given(served: str, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    command = README.command("curl ")
    assert ADDRESS in command

    done = run_command(command.replace("curl", "curl --silent --show-error").replace(ADDRESS, served), folder)

    assert done.returncode == 0, done.stderr
    shown, given = json.loads(README.block("json")), json.loads(done.stdout)
    assert (shown["model"], shown["image"]) == (given["model"], given["image"])
    [face], [wanted] = given["faces"], shown["faces"]
    assert list(face) == list(wanted)
    assert face["expression"] == wanted["expression"]
    assert face["box"] == pytest.approx(wanted["box"], abs=1)
    assert face["probabilities"] == pytest.approx(wanted["probabilities"], abs=0.01)
    for name, point in wanted["landmarks"].items():
        assert face["landmarks"][name] == pytest.approx(point, abs=1)


@pytest.mark.parametrize("path", ["/", "/docs", "/model", "/metrics", "/health/live", "/health/ready"])
def test_the_pages_it_names_are_there(served: str, path: str) -> None:
    assert f"`{path}`" in README.text
    assert httpx.get(served + path).status_code == 200


@pytest.mark.parametrize(
    "command", [c for c in README.commands if "manet predict" in c or "manet explain" in c or "--help" in c]
)
def test_the_other_commands(command: str, folder: Path) -> None:
    done = run_command(command, folder)

    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).strip()
    assert "--draw" not in command or (folder / "boxes.png").stat().st_size > 1000
    assert "clip.mp4" not in command or "happiness 5" in done.stderr


def test_the_python_block(folder: Path) -> None:
    program = README.block("python")

    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)

    assert re.fullmatch(r"[a-z]+ [01]\.\d+\n", done.stdout)


def test_the_import_of_an_authors_checkpoint(authors_checkpoints: Mapping[str, Path], folder: Path) -> None:
    command = README.command("weights import").replace("FILE", str(authors_checkpoints["seven"]))

    done = run_command(command, folder, **{STORE_VARIABLE: str(folder)})

    assert done.returncode == 0, done.stderr
    assert (folder / "raf_db.safetensors").is_file()


def test_the_citation_is_a_bibtex_entry_of_the_paper_that_it_links_to() -> None:
    entry = README.block("bibtex")
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, flags=re.MULTILINE))

    assert re.fullmatch(r"@article\{\w+,\n(?:  \w+ = \{.*\},\n)+  \w+ = \{.*\}\n\}\n", entry)
    assert {"author", "title", "journal", "year"} <= set(fields)
    assert f"(https://doi.org/{fields['doi']})" in README.text


@pytest.mark.parametrize("name", names())
def test_the_table_of_weights_is_the_registry(name: str) -> None:
    weights = get(name)
    [row] = [line for line in README.text.splitlines() if line.startswith(f"| `{name}` |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    figures = next(iter((*weights.measured, *weights.published)))

    assert cells[2] == f"{weights.preprocessing.input_size} px, {weights.preprocessing.colour}"
    assert f"{figures.n:,} images" in cells[3]
    assert ("measured here" if weights.measured else "published") in cells[3]
    assert cells[4] == f"{figures.accuracy:.2f}"
    assert cells[5] == ("-" if figures.macro_recall is None else f"{figures.macro_recall:.2f}")
    assert cells[6] == ("yes" if weights.shipped else "import it")


def test_the_measured_accuracy_is_that_of_its_result_file() -> None:
    result = json.loads((ROOT / "training/reports/ferplus/valid.json").read_text())
    [figures] = get("ferplus").measured

    assert figures.source == "training/reports/ferplus/valid.json"
    assert figures.accuracy == round(result["accuracy"], 2)
    assert figures.macro_recall == round(result["macro_recall"], 2)
