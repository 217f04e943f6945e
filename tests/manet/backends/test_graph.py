"""The graph for OpenVINO against the authors' numbers and PyTorch: both wirings, any size, float32 and int8."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops
from safetensors.numpy import save_file

from manet.backends.factory import load_backend
from manet.backends.openvino.arithmetic import Float32, Int8
from manet.backends.openvino.backend import graph_of
from manet.backends.openvino.calibration import Calibration, with_zero
from manet.backends.openvino.graph import build, logits
from manet.backends.openvino.runtime import core
from manet.errors import CheckpointError
from manet.labels import CLASS_ORDERS
from manet.nn.model import MANet, fuse
from manet.nn.wiring import Wiring
from manet.vision.preprocess import Preprocessing
from manet.weights.checkpoint import save_weights
from manet.weights.header import Header, Use
from manet.weights.parameters import Parameters, read_parameters
from manet.weights.registry import INT8_SUFFIX, get, locate, locate_calibration, resolve
from testing.golden import golden_logits, views
from testing.weights import NARROW, save_own
from tests.manet.nn.test_model import _golden_entry, golden_images, keys, reference  # noqa: F401 - fixtures

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.mark.parametrize(("release", "wiring"), [("2023", "bidirectional"), ("2021", "unidirectional")])
def test_both_branches_give_the_authors_numbers(
    release: str,
    wiring: Wiring,
    keys: dict[str, list[int]],  # noqa: F811
    golden_images: torch.Tensor,  # noqa: F811
    reference: dict[str, Any],  # noqa: F811
) -> None:
    parameters = Parameters({key: _golden_entry(key, shape) for key, shape in keys.items()})
    images = ops.parameter([-1, 3, 224, 224], np.float32)
    branches = [
        logits(images.output(0), replace(get("raf_db"), wiring=wiring, fusion_weight=share), parameters, Float32())
        for share in (1.0, 0.0)
    ]
    graph = openvino.Model([branch.get_node() for branch in branches], [images], "golden")

    found = core().compile_model(graph, "CPU", EXACT)(golden_images.numpy())

    for place, name in enumerate(("eval_local", "eval_multi_scale")):
        wanted = reference[f"{release}/{name}"]
        np.testing.assert_allclose(found[place], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("dataset", "wiring", "side", "width"),
    [("ferplus", "bidirectional", 32, 64), ("raf_db", "unidirectional", 57, NARROW)],
)
def test_any_size_class_count_and_width_gives_what_pytorch_gives(
    dataset: str, wiring: Wiring, side: int, width: int, tmp_path: Path
) -> None:
    spec = Preprocessing(input_size=side, colour="rgb", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    classes = CLASS_ORDERS[dataset]
    torch.manual_seed(3)
    network = MANet(len(classes), wiring=wiring, width=width).eval()
    use = Use(dataset=dataset, preprocessing=spec, crop=None, fusion_weight=0.7, temperature=1.0)
    path = tmp_path / "mine.safetensors"
    save_weights(network, path, Header(classes=classes, wiring=wiring, provenance="", use=use))
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    floats = (images / 255 - np.array(spec.mean)) / np.array(spec.std)
    with torch.inference_mode():
        wanted = fuse(network(torch.from_numpy(floats).float().permute(0, 3, 1, 2)), 0.7).numpy()

    found = load_backend(resolve(str(path)), backend="openvino", precision="float32").infer(images)

    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_in_int8_the_answers_stay_close() -> None:
    golden = golden_logits()
    graph = graph_of(get("ferplus"), "int8", store=None)
    rounded = [op for op in graph.get_ops() if op.get_type_name() == "FakeQuantize"]
    constants = [op for op in graph.get_ops() if op.get_type_name() == "Constant"]
    whole = [op for op in constants if op.get_element_type().get_type_name() == "i8"]
    # As rounded float32, so that it is the same on processors that have no instructions for int8.
    network = core().compile_model(graph, "CPU", EXACT | {"LP_TRANSFORMS_MODE": "NO"})

    found = network(views())[0]

    assert (len(rounded), len(whole)) == (len(_calibration().ranges), 88)
    np.testing.assert_allclose(found, golden, rtol=0, atol=0.05 * np.abs(golden).max())
    assert np.abs(found - golden).max() > 1e-3 * np.abs(golden).max(), "nothing was rounded"


def _calibration() -> Calibration:
    path = locate_calibration(get("ferplus"))
    assert path is not None
    return Calibration.load(path)


def test_a_place_without_a_range_is_an_error() -> None:
    weights = get("ferplus")
    parameters = read_parameters(locate(weights), num_classes=8, wiring=weights.wiring)
    ranges = {place: ends for place, ends in _calibration().ranges.items() if place != "layer3_1_p1.0.conv2"}

    with pytest.raises(CheckpointError, match=r"no range for layer3_1_p1\.0\.conv2; `manet-train quantize`"):
        build(weights, parameters, Int8(Calibration("", ranges)))


def test_a_calibration_fits_one_file_of_weights_only(tmp_path: Path) -> None:
    own = save_own(tmp_path / "mine.safetensors")
    _calibration().save(own.with_suffix(INT8_SUFFIX))
    weights = resolve(str(own))

    with pytest.raises(CheckpointError, match="measured with other weights; `manet-train quantize` makes one"):
        graph_of(weights, "int8", store=None)
    own.with_suffix(INT8_SUFFIX).write_bytes(b"no calibration")
    with pytest.raises(CheckpointError, match="expected an int8 calibration, found something else"):
        graph_of(weights, "int8", store=None)


def test_a_calibration_of_an_older_version_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "old.int8.safetensors"
    save_file({"fingerprint": np.zeros(32, np.uint8), "activations": np.zeros((2, 2), np.int64)}, path)

    with pytest.raises(CheckpointError, match=r"version 2, found an older one .*; `manet-train quantize` makes one$"):
        Calibration.load(path)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    written = Calibration("ab" * 32, {"conv1": (-0.5, 0.75), "layer1.0.conv2": (0.0, 3.0)})
    written.save(tmp_path / "x.int8.safetensors")

    assert Calibration.load(tmp_path / "x.int8.safetensors") == written


@pytest.mark.parametrize(("low", "high"), [(-0.3, 1.0), (0.2, 4.0), (-2.0, -1.0), (-1.0, 1.0)])
def test_zero_is_among_the_values_of_a_range(low: float, high: float) -> None:
    least, largest = with_zero(low, high)
    step = (largest - least) / 255

    assert least / step == pytest.approx(round(least / step), abs=1e-6)
    assert least <= 0 <= largest
    assert (least, largest) == pytest.approx((min(low, 0), max(high, 0)), abs=step)
    assert with_zero(0, 0) == (0, 1)


def test_no_module_of_pytorch_is_loaded_to_answer(tmp_path: Path) -> None:
    own = save_own(tmp_path / "mine.safetensors")
    program = f"""
import sys
from manet.backends.factory import load_backend
from manet.weights.registry import resolve
for name, precision in (({str(own)!r}, "float32"), ("ferplus", "auto")):
    load_backend(resolve(name), backend="openvino", precision=precision).warmup([2])
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "torchvision")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
