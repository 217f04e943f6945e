"""The examples run as their readers would run them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from manet.labels import CLASS_ORDERS
from manet.weights.registry import described_by
from testing.data_sets import draw_face_api, draw_ferplus
from testing.processes import manet_serve
from testing.weights import NARROW
from training.cli import app

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        cwd=EXAMPLES.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    Image.fromarray(skimage.data.astronaut()).save(folder / "face.png")
    Image.linear_gradient("L").save(folder / "empty.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_there_is_no_example_that_no_test_runs() -> None:
    tests = Path(__file__).read_text()
    assert all(f'"{path.name}"' in tests for path in EXAMPLES.glob("*.py"))


def test_a_program_calls_the_service(album: Path) -> None:
    with manet_serve() as address:
        told = run("call_the_service.py", album / "face.png", "--url", address)
        broken = subprocess.run(
            [sys.executable, EXAMPLES / "call_the_service.py", album / "notes.txt", "--url", address],
            capture_output=True,
            text=True,
            check=False,
        )

    assert re.fullmatch(r"happiness \d+% at \d+, \d+\n", told)
    assert "Not an image format that is read" in broken.stderr


def test_a_program_embeds_the_recognizer(album: Path, tmp_path: Path) -> None:
    told = run("embed_the_recognizer.py", album, tmp_path / "sorted")

    assert told.splitlines() == ["empty.png: no face", "face.png: happiness", "notes.txt: not an image"]
    assert (tmp_path / "sorted/happiness/face.png").is_file()


@pytest.mark.slow
def test_a_program_fine_tunes_on_its_own_faces(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part, count in (("train", 8), ("valid", 2)):
        for grey, expression in ((60, "happiness"), (180, "sadness")):
            folder = tmp_path / "faces" / part / expression
            folder.mkdir(parents=True)
            for number in range(count):
                drawn = (generator.integers(0, 40, (48, 48)) + grey).astype(np.uint8)
                Image.fromarray(drawn).save(folder / f"{number}.png")
    quick = ["epochs=1", "input_size=32"]

    told = run("fine_tune_on_your_own.py", tmp_path / "faces", tmp_path / "run", *(f"--set={one}" for one in quick))

    assert (tmp_path / "run/best.safetensors").is_file()
    answers = [line for line in told.splitlines() if line.startswith(("happiness/", "sadness/"))]
    assert len(answers) == 4
    assert all(re.search(r": (happiness|sadness) \d+%$", line) for line in answers)


@pytest.mark.slow
@pytest.mark.long
def test_training_in_minutes_ends_in_parts_that_join_to_weights(tmp_path: Path) -> None:
    votes = [[8 * (column == k) for column in range(10)] for k in (0, 1, 4)]
    names = [("Training", f"t{i}.png") for i in range(12)] + [("PublicTest", f"v{i}.png") for i in range(6)]
    ferplus_tree = draw_ferplus(tmp_path / "data", [(*name, votes[k % 3]) for k, name in enumerate(names)])
    packed, out = tmp_path / "ferplus.npz", tmp_path / "parts"
    face_api = draw_face_api(tmp_path / "face-api")
    pack = ["pack-data", "ferplus", "--data", str(ferplus_tree), "--out", str(packed)]
    assert CliRunner().invoke(app, pack).exit_code == 0
    fields = ["epochs=2", "epoch_sizes=[32, 32]", "input_size=32", "batch_size=6", f"width={NARROW}"]
    fields.append("precision='float32'")
    fields.append("schedule.cycles=[{epochs=2, max_lr=0.05, warmup=0.2}]")
    changes = [word for field in fields for word in ("--set", field)]

    subprocess.run(
        ["bash", EXAMPLES / "train_in_minutes.sh", packed, "10000", out, *changes],
        cwd=EXAMPLES.parent,
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "FACE_EMBEDDING": str(face_api),
            "CLUSTERS": "3",
        },
        check=True,
    )

    parts = sorted(out.glob("weights.*"))
    assert all(part.stat().st_size <= 16e6 for part in parts)
    whole = tmp_path / "joined.safetensors"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert described_by(whole).classes == CLASS_ORDERS["ferplus"]
    assert json.loads((out / "recipe.json").read_text())["epochs"] == 2
