"""The engine protocol and the PyTorch engine behind it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manet.backends import load_backend
from manet.backends.choice import Machine, choose
from manet.backends.core import core
from manet.backends.exports import exported
from manet.backends.openvino import Network, OpenVINOBackend, Request, compiled, padded
from manet.backends.torch import FusedClassifier, TorchBackend
from manet.checkpoint import save_weights
from manet.errors import CheckpointError, WeightsNotInstalledError
from manet.faces import FaceCrop, Landmarks, Point
from manet.header import Header, Use
from manet.labels import CLASS_ORDERS
from manet.model import MANet, fuse
from manet.preprocess import Preprocessing
from manet.weights import INT8_SUFFIX, described_by, get, locate, resolve

SPEC = Preprocessing(input_size=48, colour="rgb", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
CROP = FaceCrop(Landmarks(Point(0.3, 0.4), Point(0.7, 0.4), Point(0.5, 0.6), Point(0.4, 0.8), Point(0.6, 0.8)))


@pytest.fixture(scope="module")
def network() -> MANet:
    torch.manual_seed(5)
    return MANet(8).eval()


@pytest.fixture(scope="module")
def backend(network: MANet) -> TorchBackend:
    return TorchBackend(FusedClassifier(network, SPEC, 0.6))


@pytest.fixture(scope="module")
def own_file(network: MANet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that no registry knows, as a training run leaves them."""
    path = tmp_path_factory.mktemp("run") / "mine.safetensors"
    use = Use(dataset="ferplus", preprocessing=SPEC, crop=CROP, fusion_weight=0.6, temperature=1.5)
    save_weights(network, path, Header(classes=CLASS_ORDERS["ferplus"], wiring="bidirectional", provenance="", use=use))
    return path


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)


def test_it_answers_with_the_fused_logits_of_the_normalised_pictures(backend: TorchBackend, network: MANet) -> None:
    images = _images(3)
    floats = (images / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)
    with torch.inference_mode():
        wanted = fuse(network(torch.from_numpy(floats).float().permute(0, 3, 1, 2)), 0.6).numpy()

    found = backend.infer(images)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_face_gets_the_same_logits_alone_and_in_company(backend: TorchBackend) -> None:
    images = _images(5)

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
    monkeypatch.setattr(backend, "infer", lambda images: seen.append(len(images)) or infer(images))

    backend.warmup([1, 4])

    assert seen == [1, 4]
    with pytest.raises(ValueError, match="expected"):
        backend.warmup([0])


def test_a_closed_engine_answers_no_more(network: MANet) -> None:
    backend = TorchBackend(FusedClassifier(network, SPEC, 0.6))
    backend.close()

    with pytest.raises(RuntimeError, match="closed"):
        backend.infer(_images(1))


def test_a_file_says_how_it_is_to_be_used(own_file: Path, backend: TorchBackend) -> None:
    weights = resolve(str(own_file))

    assert (weights.id, weights.preprocessing, weights.crop) == ("mine", SPEC, CROP)
    assert (weights.temperature, weights.fusion_weight) == (1.5, 0.6)
    loaded = load_backend(weights, engine="torch")
    assert (loaded.name, loaded.precision) == ("torch", "float32")
    np.testing.assert_array_equal(loaded.infer(_images(2)), backend.infer(_images(2)))


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


def test_what_was_asked_for_is_taken_or_refused() -> None:
    here = Machine(cuda=0, openvino=True, bf16=True, vnni=True)
    server = Machine(cuda=7, openvino=True, bf16=False, vnni=False)
    bare = Machine(cuda=0, openvino=False, bf16=False, vnni=True)

    def chosen(machine: Machine, **asked: Any) -> tuple[str, str, str]:
        choice = choose(machine, **asked)
        return choice.engine, choice.precision, choice.device

    assert chosen(here) == ("openvino", "bf16", "cpu")
    assert chosen(here, precision="float32") == ("openvino", "float32", "cpu")
    assert chosen(here, engine="torch") == ("torch", "float32", "cpu")
    assert chosen(server) == ("torch", "float32", "cuda")
    assert chosen(server, device="cpu") == ("openvino", "float32", "cpu")
    assert chosen(server, engine="openvino") == ("openvino", "float32", "cpu")
    assert chosen(bare) == ("torch", "float32", "cpu")
    assert chosen(replace(server, cuda=9)) == ("torch", "bf16", "cuda")
    assert chosen(server, precision="float16") == ("torch", "float16", "cuda")
    assert choose(server).reason == "torch: there is a CUDA device; float32: exact everywhere"
    for asked in ({"device": "cuda"}, {"engine": "openvino", "device": "cuda"}):
        with pytest.raises(ValueError, match="cuda"):
            chosen(here, **asked)
    with pytest.raises(ValueError, match="pip install openvino"):
        chosen(bare, engine="openvino")
    for asked in ({"precision": "float16"}, {"engine": "torch", "precision": "int8", "int8": "close"}):
        with pytest.raises(ValueError, match="does not run in"):
            chosen(here, **asked)


def test_int8_is_chosen_where_it_pays_and_costs_next_to_nothing() -> None:
    vnni = Machine(cuda=0, openvino=True, bf16=True, vnni=True)

    assert choose(vnni, int8="close").precision == "int8"
    assert choose(replace(vnni, vnni=False), int8="close").precision == "bf16"
    assert choose(replace(vnni, cuda=8), int8="close").precision == "bf16"
    assert choose(vnni, int8="unmeasured").precision == "bf16"
    assert choose(vnni, int8="unmeasured", precision="int8").precision == "int8"
    with pytest.raises(ValueError, match="no calibration: manet-train calibrate makes one"):
        choose(vnni, int8="absent", precision="int8")


def test_the_shipped_calibration_loses_at_most_half_a_point() -> None:
    weights = get("ferplus")
    assert weights.int8 is not None
    figures = weights.int8.measured
    found = json.loads((Path(__file__).parents[2] / figures.source).read_text())

    assert (found["backend"]["name"], found["backend"]["precision"]) == ("openvino", "int8")
    assert found["weights"]["sha256"] == weights.sha256
    assert (found["dataset"], found["split"], found["n"]) == (figures.dataset, figures.split, figures.n)
    assert found["accuracy"] == pytest.approx(figures.accuracy, abs=0.005)
    assert found["macro_recall"] == pytest.approx(figures.macro_recall, abs=0.005)
    assert weights.measured[0].accuracy - figures.accuracy <= 0.5
    assert weights.int8_is_close
    assert not replace(weights, int8=replace(weights.int8, measured=replace(figures, accuracy=85.6))).int8_is_close


def test_a_calibration_fits_one_network_only(own_file: Path, tmp_path: Path) -> None:
    weights = get("ferplus")
    assert weights.int8 is not None
    shutil.copy(locate(weights).with_name(weights.int8.file), own_file.with_suffix(INT8_SUFFIX))

    with pytest.raises(CheckpointError, match="another network"):  # this one has a mean and a deviation
        load_backend(resolve(str(own_file)), engine="openvino", precision="int8", cache=tmp_path)
    own_file.with_suffix(INT8_SUFFIX).write_bytes(b"no calibration")
    with pytest.raises(CheckpointError, match="is no calibration"):
        load_backend(resolve(str(own_file)), engine="openvino", precision="int8", cache=tmp_path)
    own_file.with_suffix(INT8_SUFFIX).unlink()


def test_every_engine_normalises_alike(own_file: Path, backend: TorchBackend) -> None:
    other = load_backend(resolve(str(own_file)), engine="openvino", precision="float32")

    for count in (1, 3, 17):
        wanted, found = backend.infer(_images(count)), other.infer(_images(count))
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
    with pytest.raises(ValueError, match="expected uint8"):
        other.infer(_images(0))


def test_an_exported_network_is_kept_and_mended(own_file: Path, tmp_path: Path) -> None:
    cache, weights = tmp_path / "cache", resolve(str(own_file))
    wanted = load_backend(weights, engine="openvino", precision="float32", cache=cache).infer(_images(2))
    [folder] = cache.glob("[!.]*")
    program = f"""
import sys
from pathlib import Path
from manet.backends import load_backend
from manet.weights import resolve
engine = load_backend(resolve({str(own_file)!r}), engine="openvino", precision="float32", cache=Path({str(cache)!r}))
engine.warmup([2])
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]  # the network came out of the cache

    numbers = folder / "network.bin"
    numbers.write_bytes(numbers.read_bytes()[:-1000])
    mended = load_backend(weights, engine="openvino", precision="float32", cache=cache)

    np.testing.assert_array_equal(mended.infer(_images(2)), wanted)
    assert list(cache.glob("[!.]*")) == [folder]


def test_openvino_tells_nobody_that_it_is_used(own_file: Path, tmp_path: Path) -> None:
    program = f"""
import multiprocessing.process
import socket
import sys

tried = []
sys.addaudithook(lambda event, args: event in {{"socket.connect", "socket.getaddrinfo"}} and tried.append(event))
multiprocessing.process.BaseProcess.start = lambda process: tried.append("process")

from manet.backends import load_backend
from manet.weights import resolve

load_backend(resolve({str(own_file)!r}), engine="openvino", precision="float32").infer
print(tried, sys.modules["openvino_telemetry"])
"""
    home = {"HOME": str(tmp_path / "home"), "MANET_CACHE_DIR": str(tmp_path / "cache")}
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | home
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "[] None\n"
    assert not (tmp_path / "home").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_signal_is_handled_after_engines_have_come_and_gone(own_file: Path) -> None:
    program = f"""
import os
import signal

from manet.backends import load_backend
from manet.weights import resolve

signal.signal(signal.SIGTERM, lambda *_: print("handled"))
engines = [load_backend(resolve({str(own_file)!r}), engine="openvino", precision="float32") for _ in range(2)]
while engines:
    engines.pop(0).close()
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


class _Watched:
    """A request that notes the sizes it is started with, and may be made to fail."""

    def __init__(self, request: Request, met: list[int]) -> None:
        self.broken = False
        self.running = 0
        self._request = request
        self._met = met

    @property
    def logits(self) -> np.ndarray:
        return self._request.logits

    def start(self, images: np.ndarray) -> None:
        self._met.append(padded(len(images)))
        self.running += 1
        self._request.start(images)

    def wait(self) -> None:
        self._request.wait()
        self.running -= 1
        if self.broken:
            raise RuntimeError("this part failed")


def _apart(path: Path, threads: int) -> OpenVINOBackend:
    """Return an engine whose threads have images of their own, as they do in int8."""
    graph = core().read_model(exported(resolve(str(path)), None, None, int8=False))
    network = compiled(graph, side=48, precision="float32", threads=threads, apart=True)
    return OpenVINOBackend(network, side=48, precision="float32", reason="asked for")


def _watched(engine: Any, met: list[int]) -> list[_Watched]:
    """Put watched requests in the place of an engine's own, and return them, the shared one first."""
    network = engine._network
    apart = [_Watched(request, met) for request in network.apart]
    shared = apart[0] if len(apart) == 1 else _Watched(network.shared, met)
    engine._network = Network(shared, apart)  # type: ignore[arg-type]
    return [shared, *apart]


@pytest.mark.parametrize(
    ("threads", "met_by_70", "met_by_7", "met_by_1", "warmed"),
    [
        (1, [32, 32, 6], [8], [1], {1, 2, 3, 4, 6, 8, 12, 16}),
        (2, [32, 32, 3, 3], [4, 3], [1], {1, 2, 3, 4, 6, 8}),
        (3, [24, 24, 24], [3, 2, 2], [1], {1, 2, 3, 4, 6}),
    ],
)
def test_openvino_gives_each_thread_its_part_in_one_of_few_sizes(
    own_file: Path, *, threads: int, met_by_70: list[int], met_by_7: list[int], met_by_1: list[int], warmed: set[int]
) -> None:
    engine = _apart(own_file, threads)
    met: list[int] = []
    _watched(engine, met)
    images = _images(70)

    whole = engine.infer(images)
    assert met == met_by_70
    met.clear()
    sevens = np.concatenate([engine.infer(images[start : start + 7]) for start in range(0, 70, 7)])
    assert met == met_by_7 * 10
    met.clear()
    ones = np.concatenate([engine.infer(images[place : place + 1]) for place in range(5)])
    assert met == met_by_1 * 5
    met.clear()
    engine.warmup([1, 13])

    assert whole.shape == (70, 8)
    np.testing.assert_allclose(sevens, whole, atol=1e-4 * np.abs(whole).max())
    np.testing.assert_allclose(ones, whole[:5], atol=1e-4 * np.abs(whole).max())
    assert set(met) == warmed


def test_a_part_that_fails_leaves_none_running(own_file: Path) -> None:
    engine = _apart(own_file, 2)
    wanted = engine.infer(_images(6))
    requests = _watched(engine, [])

    for broken in requests[1:]:
        broken.broken = True
        with pytest.raises(RuntimeError, match="this part failed"):
            engine.infer(_images(6))
        assert [request.running for request in requests] == [0, 0, 0]
        broken.broken = False

    np.testing.assert_array_equal(engine.infer(_images(6)), wanted)


def test_threads_have_images_of_their_own_in_int8_only(own_file: Path) -> None:
    whole = load_backend(resolve(str(own_file)), engine="openvino", precision="float32", threads=3)
    rounded = load_backend(get("ferplus"), engine="openvino", precision="int8", threads=3)

    assert len(_watched(whole, [])) == 1 + 1
    assert len(_watched(rounded, [])) == 1 + 3


def test_a_part_runs_in_the_next_size() -> None:
    assert [padded(count) for count in (1, 5, 9, 17, 32)] == [1, 6, 12, 24, 32]


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
import manet.backends.torch
from manet.backends import load_backend
from manet.weights import get

before = len(os.listdir("/proc/self/task"))
engine = load_backend(get("ferplus"), engine="torch", threads=2)
loaded = len(os.listdir("/proc/self/task"))
engine.warmup([1])
print(loaded - before, len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0", "1"]
