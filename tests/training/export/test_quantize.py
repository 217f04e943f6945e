"""``manet-train quantize``: the ranges of a file of weights, and the int8 network that they make."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from manet.backends.openvino.backend import graph_of
from manet.backends.openvino.calibration import Calibration
from manet.backends.openvino.ranges import ranges
from manet.backends.openvino.runtime import core
from manet.files import sha256_of
from manet.vision.preprocess import network_input
from manet.weights.registry import INT8_SUFFIX, resolve
from testing.weights import save_own
from training.cli import app
from training.data.datasets import load


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return save_own(tmp_path / "mine.safetensors")


def test_the_command_makes_weights_ready_for_int8(own: Path, ferplus_tree: Path) -> None:
    done = CliRunner().invoke(
        app, ["quantize", "--dataset", "ferplus", "--data", str(ferplus_tree), "--weights", str(own)]
    )
    assert done.exit_code == 0, done.output
    path = own.with_suffix(INT8_SUFFIX)
    calibration = Calibration.load(path)
    weights, data = resolve(str(own)), load("ferplus", ferplus_tree, "train")
    images = np.stack([network_input(data.read(place), weights.preprocessing) for place in range(len(data))])

    exact, rounded = (
        core().compile_model(
            graph_of(weights, precision, store=None),
            "CPU",
            {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": "NO"},
        )(images)[0]
        for precision in ("float32", "int8")
    )

    assert sha256_of(path) in done.output
    assert calibration.weights_sha256 == sha256_of(own)
    assert {"conv1", "layer3_1_p1.0.conv2", "layer4_2.1.conv2_2_4"} <= set(calibration.ranges)
    assert np.abs(rounded - exact).max() > 0
    # No one trained this network, and it amplifies what is rounded; the shipped weights have a test of their own.
    assert np.corrcoef(rounded.ravel(), exact.ravel())[0, 1] > 0.9


def test_ranges_span_all_images(own: Path) -> None:
    weights = resolve(str(own))
    dark, bright = np.zeros((48, 48, 3), np.uint8), np.full((48, 48, 3), 255, np.uint8)

    alone, both = (ranges(weights, own, [dark] * 30 + images) for images in ([], [bright]))

    # The first convolution's inputs, by the weights' mean and deviation: (0 - 0.5) / 0.2 and (1 - 0.3) / 0.3, about.
    assert both["conv1"] == pytest.approx((-2.5, 2.5), abs=0.6)
    assert alone["conv1"][1] < 0.1
    assert all(low <= 0 <= high for low, high in both.values())
