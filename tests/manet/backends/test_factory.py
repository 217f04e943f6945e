"""The engine protocol and the PyTorch engine behind it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manet.backends.base import Logits
from manet.backends.factory import load_backend
from manet.backends.selection import Machine, choose
from manet.backends.torch_cpu import TorchBackend
from manet.errors import CheckpointError, WeightsNotInstalledError
from manet.labels import CLASS_ORDERS
from manet.nn.classifier import FusedClassifier
from manet.nn.model import MANet, fuse
from manet.vision.preprocess import Pixels
from manet.weights.checkpoint import save_weights
from manet.weights.header import Header
from manet.weights.registry import described_by, get, resolve
from testing.weights import CROP, SPEC, noise, own_network, save_own


@pytest.fixture(scope="module")
def network() -> MANet:
    return own_network()


@pytest.fixture(scope="module")
def backend(network: MANet) -> TorchBackend:
    return TorchBackend(FusedClassifier(network, SPEC, 0.6))


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_own(tmp_path_factory.mktemp("run") / "mine.safetensors")


def test_it_answers_with_the_fused_logits_of_the_normalised_images(backend: TorchBackend, network: MANet) -> None:
    images = noise(3)
    floats = (images / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)
    with torch.inference_mode():
        wanted = fuse(network(torch.from_numpy(floats).float().permute(0, 3, 1, 2)), 0.6).numpy()

    found = backend.infer(images)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_face_gets_the_same_logits_alone_and_in_company(backend: TorchBackend) -> None:
    images = noise(5)

    np.testing.assert_allclose(backend.infer(images)[3:4], backend.infer(images[3:4]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 48, 48, 3), np.uint8),
        np.zeros((1, 47, 48, 3), np.uint8),
        np.zeros((1, 48, 48, 3), np.float32),
        np.zeros((48, 48, 3), np.uint8),
    ],
)
def test_another_shape_or_type_is_an_error(backend: TorchBackend, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(N, 48, 48, 3\)"):
        backend.infer(images)


def test_warm_up_runs_every_size(backend: TorchBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    infer = backend.infer

    def note(images: Pixels) -> Logits:
        seen.append(len(images))
        return infer(images)

    monkeypatch.setattr(backend, "infer", note)

    backend.warmup([1, 4])

    assert seen == [1, 4]
    with pytest.raises(ValueError, match="expected"):
        backend.warmup([0])


def test_a_closed_engine_answers_no_more(network: MANet) -> None:
    backend = TorchBackend(FusedClassifier(network, SPEC, 0.6))
    backend.close()

    with pytest.raises(RuntimeError, match="closed"):
        backend.infer(noise(1))


def test_a_file_says_how_it_is_to_be_used(own_file: Path, backend: TorchBackend) -> None:
    weights = resolve(str(own_file))

    assert (weights.id, weights.preprocessing, weights.crop) == ("mine", SPEC, CROP)
    assert (weights.temperature, weights.fusion_weight) == (1.5, 0.6)
    loaded = load_backend(weights, backend="torch")
    assert (loaded.name, loaded.precision) == ("torch", "float32")
    np.testing.assert_array_equal(loaded.infer(noise(2)), backend.infer(noise(2)))


def test_a_file_that_does_not_say_so_is_an_error(network: MANet, tmp_path: Path) -> None:
    path = tmp_path / "mute.safetensors"
    save_weights(network, path, Header(classes=CLASS_ORDERS["ferplus"], wiring="bidirectional", provenance=""))

    with pytest.raises(CheckpointError, match="how the weights are to be used"):
        described_by(path)


def test_a_device_that_is_not_there_is_an_error(own_file: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here, so asking for one is no error")
    with pytest.raises(ValueError, match="cuda"):
        load_backend(described_by(own_file), device="cuda")


def test_what_was_requested_is_taken_or_refused() -> None:
    here = Machine(cuda=0, openvino=True, bf16=True, vnni=True)
    server = Machine(cuda=7, openvino=True, bf16=False, vnni=False)
    bare = Machine(cuda=0, openvino=False, bf16=False, vnni=True)

    def chosen(machine: Machine, **asked: Any) -> tuple[str, str, str]:
        choice = choose(machine, **asked)
        return choice.backend, choice.precision, choice.device

    assert chosen(here) == ("openvino", "bf16", "cpu")
    assert chosen(here, precision="float32") == ("openvino", "float32", "cpu")
    assert chosen(here, backend="torch") == ("torch", "float32", "cpu")
    assert chosen(server) == ("torch", "float16", "cuda")
    assert chosen(replace(server, cuda=6)) == ("torch", "float32", "cuda")
    assert chosen(server, device="cpu") == ("openvino", "float32", "cpu")
    assert chosen(server, backend="openvino") == ("openvino", "float32", "cpu")
    assert chosen(bare) == ("torch", "float32", "cpu")
    assert chosen(server, precision="bf16") == ("torch", "bf16", "cuda")
    assert choose(server).reason == "torch: there is a CUDA device; float16: the device has it"
    for asked in ({"device": "cuda"}, {"backend": "openvino", "device": "cuda"}):
        with pytest.raises(ValueError, match="cuda"):
            chosen(here, **asked)
    with pytest.raises(ValueError, match="does not know this processor"):
        chosen(bare, backend="openvino")
    lean = replace(server, torch=False)
    assert chosen(lean) == ("openvino", "float32", "cpu")
    assert "pip install 'manet[gpu]'" in choose(lean).reason
    for asked in ({"backend": "torch"}, {"device": "cuda"}):
        with pytest.raises(ValueError, match=r"PyTorch is not installed: pip install 'manet\[gpu\]'"):
            chosen(lean, **asked)
    for asked in ({"precision": "float16"}, {"backend": "torch", "precision": "int8", "int8": "close"}):
        with pytest.raises(ValueError, match="does not run in"):
            chosen(here, **asked)


def test_int8_is_chosen_where_it_pays_and_costs_next_to_nothing() -> None:
    vnni = Machine(cuda=0, openvino=True, bf16=True, vnni=True)

    assert choose(vnni, int8="close").precision == "int8"
    assert choose(replace(vnni, vnni=False), int8="close").precision == "bf16"
    assert choose(replace(vnni, cuda=8), int8="close").precision == "float16"
    assert choose(vnni, int8="unmeasured").precision == "bf16"
    assert choose(vnni, int8="unmeasured", precision="int8").precision == "int8"
    with pytest.raises(ValueError, match="no calibration: manet-train quantize makes one"):
        choose(vnni, int8="absent", precision="int8")
    with pytest.raises(ValueError, match="no VNNI"):
        choose(replace(vnni, vnni=False, saturates=True), int8="close", precision="int8")


def test_the_shipped_calibration_has_the_figures_that_were_measured_with_it() -> None:
    weights = get("ferplus")
    assert weights.int8 is not None
    figures = weights.int8.measured
    found = json.loads((Path(__file__).parents[3] / figures.source).read_text())

    assert (found["backend"]["name"], found["backend"]["precision"]) == ("openvino", "int8")
    assert found["weights"]["sha256"] == weights.sha256
    assert (found["dataset"], found["split"], found["n"]) == (figures.dataset, figures.split, figures.n)
    assert found["accuracy"] == pytest.approx(figures.accuracy, abs=0.005)
    assert found["macro_recall"] == pytest.approx(figures.macro_recall, abs=0.005)
    assert weights.int8_is_close
    assert not replace(weights, int8=replace(weights.int8, measured=replace(figures, accuracy=85.6))).int8_is_close


def test_every_engine_normalises_alike(own_file: Path, backend: TorchBackend) -> None:
    other = load_backend(resolve(str(own_file)), backend="openvino", precision="float32")

    for count in (1, 3, 17):
        wanted, found = backend.infer(noise(count)), other.infer(noise(count))
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
    with pytest.raises(ValueError, match="expected uint8"):
        other.infer(noise(0))


def test_threads_must_be_positive(own_file: Path) -> None:
    with pytest.raises(ValueError, match="threads"):
        load_backend(described_by(own_file), threads=0)


def test_weights_that_are_not_here_are_an_error(store: Path) -> None:
    with pytest.raises(WeightsNotInstalledError, match="raf_db"):
        load_backend(get("raf_db"), store=store)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc, which is Linux's")
def test_loading_leaves_no_threads_behind_that_would_compete_with_those_that_serve() -> None:
    program = """
import os
import manet.backends.torch_cpu
from manet.backends.factory import load_backend
from manet.weights.registry import get

before = len(os.listdir("/proc/self/task"))
engine = load_backend(get("ferplus"), backend="torch", threads=2)
loaded = len(os.listdir("/proc/self/task"))
engine.warmup([1])
print(loaded - before, len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0", "1"]
