"""``manet predict``, with a network of random numbers unless the shipped weights are needed."""

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from typer.testing import CliRunner

from manet.__main__ import app
from manet.labels import CLASS_ORDERS
from manet.nn.model import MANet
from manet.vision.preprocess import Preprocessing
from manet.weights.checkpoint import save_weights
from manet.weights.header import Header, Use
from manet.weights.registry import get
from testing.weights import NARROW


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    use = Use(
        dataset="ferplus",
        preprocessing=Preprocessing(input_size=32, colour="grey"),
        crop=get("ferplus").crop,
        fusion_weight=0.6,
        temperature=1.0,
    )
    header = Header(classes=CLASS_ORDERS["ferplus"], wiring="bidirectional", provenance="random", use=use)
    save_weights(MANet(8, width=NARROW), path, header)
    return str(path)


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(skimage.data.astronaut()).save(path)
    return path


@pytest.fixture
def landscape(tmp_path: Path) -> Path:
    path = tmp_path / "landscape.png"
    Image.linear_gradient("L").convert("RGB").save(path)
    return path


def test_a_table_for_a_person(portrait: Path, landscape: Path, random_weights: str) -> None:
    done = CliRunner(env={"COLUMNS": "300"}).invoke(
        app, ["predict", str(portrait), str(landscape), "--weights", random_weights]
    )

    assert done.exit_code == 0, done.output
    header, face, none = done.output.splitlines()
    assert header.split()[-2:] == ["expression", "next"]
    assert face.split()[1] == "1"
    assert face.rstrip().endswith("%")
    assert none.split()[1] == "none"


def test_json_for_a_machine(portrait: Path, landscape: Path, random_weights: str) -> None:
    done = CliRunner().invoke(app, ["predict", str(portrait), str(landscape), "--json", "--weights", random_weights])

    assert done.exit_code == 0, done.output
    with_face, without = map(json.loads, done.output.splitlines())
    assert (with_face["file"], with_face["model"], without["faces"]) == (str(portrait), "random", [])
    assert with_face["image"] == {"width": 512, "height": 512}
    [face] = with_face["faces"]
    assert sum(face["probabilities"].values()) == pytest.approx(1)
    assert face["probabilities"][face["expression"]] == face["confidence"]
    assert set(face["landmarks"]) == {"left_eye", "right_eye", "nose", "left_mouth", "right_mouth"}
    x, y, width, height = (face["box"][key] for key in ("x", "y", "width", "height"))
    assert (x, y, x + width, y + height) == pytest.approx((178, 57, 273, 177), abs=8)


def test_an_unreadable_file_is_named_and_spoils_only_itself(
    portrait: Path, tmp_path: Path, random_weights: str
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    files = [str(text), str(tmp_path / "absent.png"), str(portrait)]

    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["predict", *files, "--weights", random_weights])
    machine = CliRunner().invoke(app, ["predict", *files, "--json", "--weights", random_weights])

    assert done.exit_code == machine.exit_code == 1
    assert "notes.txt: unsupported image format" in done.stderr
    assert "absent.png: No such file" in done.stderr
    assert "portrait.png" in done.stdout
    first, second, third = map(json.loads, machine.stdout.splitlines())
    assert "error" in first
    assert "error" in second
    assert len(third["faces"]) == 1


def test_drawings_of_one_file_and_of_several(
    portrait: Path, landscape: Path, tmp_path: Path, random_weights: str
) -> None:
    one, folder = tmp_path / "one.jpg", tmp_path / "drawn"
    arguments = ["predict", "--weights", random_weights]

    first = CliRunner().invoke(app, [*arguments, str(portrait), "--draw", str(one)])
    second = CliRunner().invoke(app, [*arguments, str(portrait), str(landscape), "--draw", str(folder)])

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    with Image.open(one) as drawn:
        assert drawn.size == (512, 512)
    assert sorted(path.name for path in folder.iterdir()) == ["landscape.png", "portrait.png"]
    with Image.open(folder / "portrait.png") as drawn:
        assert (np.asarray(drawn) != skimage.data.astronaut()).any()


@pytest.mark.parametrize(
    ("files", "draw", "message"),
    [(["a/x.png"], "out.txt", "writes .jpg"), (["a/x.png", "b/x.jpg"], "drawn", "same name")],
)
def test_a_drawing_without_a_place_is_refused_before_any_work(files: list[str], draw: str, message: str) -> None:
    done = CliRunner().invoke(app, ["predict", *files, "--draw", draw])

    assert done.exit_code == 2
    assert message in done.stderr
