"""From a run folder to the small file that is shipped, and its measurement on the command line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from manet.files import sha256_of
from manet.labels import CLASS_ORDERS
from manet.nn.model import MANet
from manet.weights.checkpoint import save_weights
from manet.weights.registry import described_by, get
from testing.weights import NARROW
from training import recipe as recipes
from training.cli import app
from training.eval.measure import MeasureError
from training.run_dir import RunDir, weights_header


@pytest.fixture
def run_folder(ferplus_tree: Path, tmp_path: Path) -> RunDir:
    """A run whose best weights are random ones."""
    recipe = recipes.load("ferplus")
    folder = RunDir(tmp_path / "run")
    folder.create(recipe, {"data": str(ferplus_tree), "duplicates": None})
    torch.manual_seed(3)
    header = weights_header(recipe, CLASS_ORDERS["ferplus"], "random")
    assert header is not None
    save_weights(MANet(8, wiring=recipe.wiring, width=NARROW), folder.weights("best"), header)
    return folder


def test_packed_weights_are_small_calibrated_and_measured_through_the_same_file(
    run_folder: RunDir, ferplus_tree: Path, tmp_path: Path
) -> None:
    runner, packed, report = CliRunner(), tmp_path / "packed.safetensors", tmp_path / "valid.json"

    made = runner.invoke(app, ["pack", str(run_folder.path), "--out", str(packed), "--provenance", "random numbers"])
    assert made.exit_code == 0, made.output
    weights = described_by(packed)
    assert packed.stat().st_size < 55e6
    assert weights.provenance == "random numbers"
    assert weights.temperature != 1.0
    assert weights.preprocessing == recipes.load("ferplus").preprocessing()
    assert weights.crop == get("ferplus").crop
    assert weights.sha256 == sha256_of(packed)
    assert weights.sha256 in made.output

    arguments = ["--dataset", "ferplus", "--data", str(ferplus_tree), "--weights", str(packed), "--json", str(report)]
    done = runner.invoke(app, ["evaluate", *arguments])
    assert done.exit_code == 0, done.output
    found = json.loads(report.read_text())
    assert found["n"] == 6
    assert found["split"] == "valid"
    assert found["weights"]["sha256"] == weights.sha256
    assert found["accuracy"] == pytest.approx(100 * sum(found["confusion"][i][i] for i in range(8)) / 6, abs=0.01)
    assert found["calibration_error"] <= found["calibration_error_uncalibrated"]
    assert set(found["per_class"]) == set(weights.classes)


def test_weights_of_other_classes_are_refused(ferplus_tree: Path, tmp_path: Path) -> None:
    recipe = recipes.load("ferplus")
    header = weights_header(recipe, CLASS_ORDERS["raf_db"], "random")
    path = tmp_path / "seven.safetensors"
    assert header is not None
    save_file({"x": torch.zeros(1)}, path, metadata=header.as_metadata())

    done = CliRunner().invoke(
        app, ["evaluate", "--dataset", "ferplus", "--data", str(ferplus_tree), "--weights", str(path)]
    )

    assert isinstance(done.exception, MeasureError)
    assert "ferplus has neutral, happiness, surprise" in str(done.exception)
