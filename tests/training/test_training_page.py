"""The commands of docs/training.md and the README's section on training run."""

import json
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import skimage.data
import torch
from PIL import Image
from typer.testing import CliRunner

from manet.labels import CLASS_ORDERS
from manet.nn.model import MANet
from manet.weights.checkpoint import save_weights
from testing.data_sets import draw_face_api, draw_ferplus
from testing.documents import README, Document, in_this_environment, run_command
from testing.weights import NARROW
from training import recipe as recipes
from training.cli import app
from training.run_dir import weights_header

pytestmark = pytest.mark.slow

PAGE = Document("docs/training.md")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in its own folder, where the page's commands find their files."""
    monkeypatch.chdir(tmp_path)


def _here(command: str) -> str:
    """Run a command of `manet-train` in this process, and return its output."""
    program, *arguments = shlex.split(command)
    assert Path(program).name == "manet-train"
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.long
def test_the_commands_that_train_the_default_weights(tmp_path: Path) -> None:
    votes = [[8 * (column == k) for column in range(10)] for k in (0, 1, 4)]
    rows = [("Training", f"t{i}.png", votes[i % 3]) for i in range(512)]
    rows += [("PublicTest", f"v{i}.png", votes[i % 3]) for i in range(6)]
    draw_ferplus(tmp_path / "DIR", rows)
    draw_face_api(tmp_path / "FACE_API")
    header = weights_header(recipes.load("ferplus"), CLASS_ORDERS["ferplus"], "random")
    assert header is not None
    _here(PAGE.command("cluster-faces"))
    small = f"--threads 1 --set batch_size=8 --set width={NARROW}"
    for command, changes in (
        (PAGE.command("fit ferplus_identity"), small),
        (PAGE.command("fit ferplus ", "--out RUN"), small),
        (PAGE.command("fit --resume RUN"), "--threads 1"),
    ):
        line = in_this_environment(f"exec {command} {changes}")
        with subprocess.Popen(line, shell=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "512 training and 6 valid images" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert "stopped and saved" in process.stdout.read()
            assert process.wait(timeout=60) == 0
        for run in ("IDENTITY", "RUN"):
            if (tmp_path / run).is_dir():
                save_weights(MANet(8, width=NARROW), tmp_path / run / "best.safetensors", header)

    for command in (PAGE.command("evaluate "), PAGE.command(" pack RUN")):
        _here(command)
    assert json.loads((tmp_path / "valid.json").read_text())["n"] == 6
    assert (tmp_path / "ferplus.safetensors").stat().st_size < 55e6


SMALL = f" --set epochs=1 --set input_size=32 --set batch_size=8 --set width={NARROW}"
"""What makes the authors' recipes fit a test."""


def _portraits(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(skimage.data.astronaut()).save(folder / f"{number:04}.png", compress_level=1)


def test_the_commands_that_repeat_a_figure_of_the_paper(tmp_path: Path) -> None:
    fit, report = README.command("fit raf_db"), README.command("report RAF")
    assert [fit, report] == [PAGE.command("fit raf_db"), PAGE.command("report RAF")]
    for split, number in (("train", 8), ("test", 4)):
        for label in range(7):
            folder = tmp_path / f"DIR/{split}/{label}"
            folder.mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (40, 40), (30 * label, 20 * i, 60)).save(folder / f"{i}.png")
    torch.save({"state_dict": MANet(12, width=NARROW).state_dict()}, tmp_path / "Pretrained_on_MSCeleb.pth.tar")

    assert "; the authors then had 71.87 %" in _here(fit + SMALL)
    _here(report)
    assert "| the authors' published log | 88.40 @ 29 |" in (tmp_path / "reports/raf_db/report.md").read_text()


def test_the_commands_for_film_frames_and_many_devices(tmp_path: Path) -> None:
    prepare, torchrun = PAGE.command("prepare caer_s"), PAGE.command("torchrun")
    _portraits(tmp_path / "FRAMES/train/Happy", 8)
    _portraits(tmp_path / "FRAMES/test/Happy", 2)

    assert "10 faces" in _here(prepare)
    done = run_command(torchrun + SMALL, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished") == 1
