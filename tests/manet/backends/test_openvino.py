"""The OpenVINO engine: its parts and their sizes, what it leaves alone in the process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest

from manet.backends.factory import load_backend
from manet.backends.openvino import runtime
from manet.backends.openvino.backend import Network, OpenVINOBackend, Request, compiled, graph_of, network_of, padded
from manet.backends.openvino.runtime import core
from manet.weights.registry import get, resolve
from testing.weights import noise, save_own


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The streams of each network that is compiled from now on."""
    found: list[str] = []
    compile_model = openvino.Core.compile_model

    def counted(self: openvino.Core, model: openvino.Model, device: str, options: dict[str, str]) -> object:
        found.append(options["NUM_STREAMS"])
        return compile_model(self, model, device, options)

    monkeypatch.setattr(openvino.Core, "compile_model", counted)
    return found


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_own(tmp_path_factory.mktemp("run") / "mine.safetensors")


def test_openvino_tells_no_one_that_it_is_used(own_file: Path, tmp_path: Path) -> None:
    program = f"""
import multiprocessing.process
import socket
import sys

tried = []
sys.addaudithook(lambda event, args: event in {{"socket.connect", "socket.getaddrinfo"}} and tried.append(event))
multiprocessing.process.BaseProcess.start = lambda process: tried.append("process")

from manet.backends.factory import load_backend
from manet.weights.registry import resolve

load_backend(resolve({str(own_file)!r}), backend="openvino", precision="float32").infer
print(tried, sys.modules["openvino_telemetry"])
"""
    home = {"HOME": str(tmp_path / "home")}
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | home
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "[] None\n"
    assert not (tmp_path / "home").exists()


def test_the_binding_meets_its_first_array_before_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[np.ndarray] = []
    tensor = openvino.Tensor

    def counted(array: np.ndarray) -> openvino.Tensor:
        met.append(array)
        return tensor(array)

    monkeypatch.setattr(openvino, "Tensor", counted)
    monkeypatch.setattr(openvino, "Core", lambda: None)

    runtime.core.__wrapped__()

    assert len(met) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_signal_is_handled_after_engines_have_come_and_gone(own_file: Path) -> None:
    program = f"""
import os
import signal

from manet.backends.factory import load_backend
from manet.weights.registry import resolve

signal.signal(signal.SIGTERM, lambda *_: print("handled"))
engines = [load_backend(resolve({str(own_file)!r}), backend="openvino", precision="float32") for _ in range(2)]
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


def _apart(path: Path, threads: int, met: list[int]) -> tuple[OpenVINOBackend, list[_Watched]]:
    """Return an engine whose threads have images of their own, as they do in int8, and its requests, watched."""
    graph = graph_of(resolve(str(path)), "float32", store=None)
    shared, *apart = (_Watched(request, met) for request in _requests(graph, threads))
    network = Network(shared, (lambda: apart) if apart else None, threads)  # type: ignore[arg-type,return-value]
    network.prepare()
    return OpenVINOBackend(network, side=48, precision="float32", reason="requested"), [shared, *apart]


def _requests(graph: openvino.Model, threads: int) -> list[Request]:
    """Return a request of all threads, and one for each thread where there are several."""
    return [
        Request(core().compile_model(graph, "CPU", {"INFERENCE_NUM_THREADS": threads}), 48)
        for _ in range(threads + 1 if threads > 1 else 1)
    ]


@pytest.mark.parametrize(
    ("threads", "met_by_70", "met_by_7", "met_by_1"),
    [
        (1, [32, 32, 6], [8], [1]),
        (2, [32, 32, 3, 3], [4, 3], [1]),
        (3, [24, 24, 24], [3, 2, 2], [1]),
    ],
)
def test_openvino_gives_each_thread_its_part_in_one_of_few_sizes(
    own_file: Path, *, threads: int, met_by_70: list[int], met_by_7: list[int], met_by_1: list[int]
) -> None:
    met: list[int] = []
    engine, _ = _apart(own_file, threads, met)
    images = noise(70)

    whole = engine.infer(images)
    assert met == met_by_70
    met.clear()
    sevens = np.concatenate([engine.infer(images[start : start + 7]) for start in range(0, 70, 7)])
    assert met == met_by_7 * 10
    met.clear()
    ones = np.concatenate([engine.infer(images[place : place + 1]) for place in range(5)])
    assert met == met_by_1 * 5

    assert whole.shape == (70, 8)
    np.testing.assert_allclose(sevens, whole, atol=1e-4 * np.abs(whole).max())
    np.testing.assert_allclose(ones, whole[:5], atol=1e-4 * np.abs(whole).max())


def test_a_part_that_fails_leaves_none_running(own_file: Path) -> None:
    engine, requests = _apart(own_file, 2, [])
    wanted = engine.infer(noise(6))

    for broken in requests[1:]:
        broken.broken = True
        with pytest.raises(RuntimeError, match="this part failed"):
            engine.infer(noise(6))
        assert [request.running for request in requests] == [0, 0, 0]
        broken.broken = False

    np.testing.assert_array_equal(engine.infer(noise(6)), wanted)


def test_threads_have_images_of_their_own_in_int8_only(own_file: Path, compilations: list[str]) -> None:
    network_of(resolve(str(own_file)), "float32", threads=3, store=None).prepare()
    assert compilations == ["1"]

    network_of(get("ferplus"), "int8", threads=3, store=None).prepare()
    assert compilations == ["1", "1", "3"]


def test_what_answers_many_images_is_compiled_when_they_first_come(compilations: list[str]) -> None:
    side = get("ferplus").preprocessing.input_size
    network = network_of(get("ferplus"), "int8", threads=2, store=None)
    backend = OpenVINOBackend(network, side=side, precision="int8", reason="requested")
    images = np.random.default_rng(0).integers(0, 256, (70, side, side, 3), dtype=np.uint8)

    assert backend.warmup((1, 2, 4)) == [1]
    ones = np.concatenate([backend.infer(images[place : place + 1]) for place in range(3)])
    assert compilations == ["1"]

    first = backend.infer(images)  # by what answers single images
    network.prepare()
    second = backend.infer(images)
    assert compilations == ["1", "2"]

    np.testing.assert_allclose(first, second, atol=1e-4)
    np.testing.assert_allclose(ones, second[:3], atol=1e-4)


def test_a_failed_compilation_for_many_images_fails_their_batches(own_file: Path) -> None:
    def fails() -> list[Request]:
        raise RuntimeError("out of memory")

    [request] = _requests(graph_of(resolve(str(own_file)), "float32", store=None), 1)
    network = Network(request, fails, 2)
    with pytest.raises(RuntimeError, match="out of memory"):
        network.prepare()

    assert network.infer(noise(1)).shape == (1, 8)
    with pytest.raises(RuntimeError, match="out of memory"):
        network.infer(noise(2))


def test_a_part_runs_in_the_next_size() -> None:
    assert [padded(count) for count in (1, 5, 9, 17, 32)] == [1, 6, 12, 24, 32]


def test_more_threads_than_the_largest_size_answer_every_batch(own_file: Path) -> None:
    graph = graph_of(resolve(str(own_file)), "float32", store=None)
    network = compiled(graph, side=48, precision="float32", threads=40, apart=True)
    network.prepare()

    assert network.infer(noise(36)).shape == (36, 8)


def test_a_closed_engine_is_not_warmed_up(own_file: Path) -> None:
    engine = load_backend(resolve(str(own_file)), backend="openvino", precision="float32")
    engine.close()

    with pytest.raises(RuntimeError, match="closed"):
        engine.warmup([1])
