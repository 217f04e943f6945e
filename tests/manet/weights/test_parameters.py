"""Parameters without PyTorch: int8 weights, folding, and what is wrong with a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from manet.errors import CheckpointError, ChecksumError
from manet.weights.header import read_header
from manet.weights.layout import SCALE
from manet.weights.parameters import Int8Weight, Parameters, read_parameters
from manet.weights.registry import get, locate

State = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def stored() -> State:
    return dict(load_file(locate(get("ferplus"))))


def test_a_rounded_weight_is_off_by_half_a_step_at_most() -> None:
    sizes = np.logspace(-6, 3, 5).reshape(-1, 1, 1, 1)
    weight = (np.random.default_rng(0).normal(size=(5, 3, 3, 3)) * sizes).astype(np.float32)
    weight[2] = 0

    rounded = Int8Weight.rounded(weight)

    assert rounded.whole.dtype == np.int8
    assert rounded.steps.shape == (5,)
    assert np.abs(rounded.whole).reshape(5, -1).max(axis=1).tolist() == [127, 127, 0, 127, 127]
    off = np.abs(rounded.expanded() - weight).reshape(5, -1).max(axis=1)
    assert (off <= 0.501 * rounded.steps).all()


def test_factors_below_zero_turn_the_numbers_and_leave_the_steps_positive() -> None:
    weight = Int8Weight(np.array([[127, -5], [3, -127]], np.int8), np.array([0.5, 0.25], np.float32))

    turned = weight.times(np.array([-2, 4], np.float32))

    assert turned.whole.tolist() == [[-127, 5], [3, -127]]
    assert turned.steps.tolist() == [1, 1]


def test_a_folded_convolution_is_the_convolution_and_its_norm() -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(4, 3, 1, 1)).astype(np.float32)
    norm = {
        name: rng.uniform(0.5, 2, 4).astype(np.float32) for name in ("weight", "bias", "running_mean", "running_var")
    }
    x = rng.normal(size=3).astype(np.float32)

    folded, bias = Parameters({"c.weight": weight, **{f"n.{name}": v for name, v in norm.items()}}).folded("c", "n")

    assert not isinstance(folded, Int8Weight)
    wanted = (weight[:, :, 0, 0] @ x - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5)
    np.testing.assert_allclose(folded[:, :, 0, 0] @ x + bias, wanted * norm["weight"] + norm["bias"], rtol=1e-5)


def test_what_is_stored_as_int8_stays_so() -> None:
    weights = get("ferplus")
    parameters = read_parameters(locate(weights), num_classes=8, wiring=weights.wiring, sha256=weights.sha256)

    folded, _ = parameters.folded("layer1.0.conv1", "layer1.0.bn1")

    assert isinstance(folded, Int8Weight)
    assert (folded.steps >= 0).all()


def _drop(state: State) -> None:
    del state["layer3_2.0.conv1_2_3.weight"]


def _add(state: State) -> None:
    state["fc_3.bias"] = np.zeros(8, np.float32)


def _reshape(state: State) -> None:
    state["bn1.bias"] = np.zeros(63, np.float32)


def _retype(state: State) -> None:
    state["conv1.weight"] = state["conv1.weight"].astype(np.float32)


def _spoil(state: State) -> None:
    state[f"conv1.weight{SCALE}"] = np.full(64, np.nan, np.float32)


def _exceed(state: State) -> None:
    state["conv1.weight"] = np.full((64, 3, 7, 7), -128, np.int8)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop, r"missing key 'layer3_2\.0\.conv1_2_3\.weight'; expected 830 keys, found 829"),
        (_add, "unexpected key 'fc_3.bias'"),
        (_reshape, r"bn1\.bias: expected shape \(64,\), found \(63,\)"),
        (_retype, "conv1.weight: expected int8, found float32"),
        (_spoil, "conv1.weight_scale: expected finite values"),
        (_exceed, "conv1.weight: expected whole numbers from -127 to 127, found -128"),
    ],
)
def test_what_is_wrong_is_named(stored: State, tmp_path: Path, spoil: Callable[[State], None], message: str) -> None:
    weights, path = get("ferplus"), tmp_path / "spoilt.safetensors"
    header = read_header(locate(weights))
    assert header is not None
    state = dict(stored)
    spoil(state)
    save_file(state, path, metadata=header.as_metadata())

    with pytest.raises(CheckpointError, match=message):
        read_parameters(path, num_classes=8, wiring="bidirectional")


def test_another_file_wiring_or_class_count_is_named(tmp_path: Path) -> None:
    path = locate(get("ferplus"))

    with pytest.raises(CheckpointError, match="expected 7 classes, found 8"):
        read_parameters(path, num_classes=7, wiring="bidirectional")
    with pytest.raises(CheckpointError, match="expected wiring unidirectional, found bidirectional"):
        read_parameters(path, num_classes=8, wiring="unidirectional")
    with pytest.raises(ChecksumError, match="expected SHA-256 0000"):
        read_parameters(path, num_classes=8, wiring="bidirectional", sha256="0" * 64)
    with pytest.raises(CheckpointError, match="expected a file, found none"):
        read_parameters(tmp_path / "none.safetensors", num_classes=8, wiring="bidirectional")
