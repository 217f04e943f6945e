"""The CUDA engine as far as a processor can run it: folding, sizes, filling, buffers. The capture is the device's."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manet.backends.selection import Precision
from manet.backends.torch_cpu import TorchBackend
from manet.backends.torch_cuda import Captured, CudaBackend
from manet.nn.classifier import FusedClassifier
from manet.nn.folding import folded
from manet.nn.model import MANet
from testing.cuda import cuda_backend_on_cpu, plain_call
from testing.weights import SPEC, noise, own_network


@pytest.fixture(scope="module")
def network() -> MANet:
    """A network whose BatchNorm statistics are not those of a new one."""
    network = own_network()
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


class Captures:
    """Captures in the place of CUDA graphs, and what was captured and run."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.runs: list[int] = []

    def __call__(self, network: FusedClassifier, images: Tensor) -> Captured:
        self.sizes.append(len(images))
        ready = plain_call(network, images)

        def run() -> None:
            self.runs.append(len(images))
            ready.run()

        return ready._replace(run=run)


@pytest.fixture
def captures() -> Captures:
    return Captures()


def _backend(network: MANet, captures: Captures, precision: Precision = "float32") -> CudaBackend:
    return cuda_backend_on_cpu(FusedClassifier(network, SPEC, 0.6), precision, capture=captures)


@pytest.fixture(scope="module")
def exact(network: MANet) -> Iterator[TorchBackend]:
    backend = TorchBackend(FusedClassifier(network, SPEC, 0.6))
    yield backend
    backend.close()


def test_folding_leaves_no_batchnorm_and_changes_no_answer(network: MANet) -> None:
    images = torch.rand(2, 3, 48, 48)

    lean = folded(network)

    assert not any(isinstance(module, nn.BatchNorm2d) for module in lean.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.inference_mode():
        for found, wanted in zip(lean(images), network(images), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_batchnorm_that_cannot_be_folded_is_an_error(network: MANet) -> None:
    broken = own_network()
    broken.bn1 = nn.BatchNorm2d(64)
    broken.conv1 = nn.Identity()  # type: ignore[assignment]

    with pytest.raises(ValueError, match="no convolution before bn1"):
        folded(broken)


def test_answers_are_those_of_the_other_engine_for_every_count(
    network: MANet, captures: Captures, exact: TorchBackend
) -> None:
    backend = _backend(network, captures)

    for count in (5, 1, 3, 8, 2):  # up and down, so that older images stand behind the batch's own
        images = np.random.default_rng(count).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)
        found = backend.infer(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact.infer(images), rtol=1e-3, atol=1e-3)

    assert captures.runs == [8, 1, 4, 8, 2]
    assert sorted(captures.sizes) == [1, 2, 4, 8]


def test_an_answer_is_the_caller_s_own(network: MANet, captures: Captures) -> None:
    backend = _backend(network, captures)

    first = backend.infer(noise(2))
    kept = first.copy()
    backend.infer(255 - noise(2))

    np.testing.assert_array_equal(first, kept)


def test_a_batch_beyond_the_largest_size_runs_in_parts(
    network: MANet, captures: Captures, exact: TorchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manet.backends.torch_cuda.SIZES", (1, 2, 4))
    backend = _backend(network, captures)
    images = np.random.default_rng(7).integers(0, 256, (11, 48, 48, 3), dtype=np.uint8)

    np.testing.assert_allclose(backend.infer(images), exact.infer(images), rtol=1e-3, atol=1e-3)

    assert captures.runs == [4, 4, 4]


def test_warm_up_captures_every_size_up_to_the_largest_first_and_once(network: MANet, captures: Captures) -> None:
    backend = _backend(network, captures)

    backend.warmup([1, 5])
    backend.infer(noise(3))

    assert captures.sizes == [8, 4, 2, 1]
    with pytest.raises(ValueError, match="expected uint8"):
        backend.warmup([0])


@pytest.mark.parametrize(("precision", "allowed"), [("bf16", 0.05), ("float16", 0.005)])
def test_a_short_number_format_stays_close(
    network: MANet, captures: Captures, exact: TorchBackend, precision: Precision, allowed: float
) -> None:
    found, wanted = _backend(network, captures, precision).infer(noise(4)), exact.infer(noise(4))

    assert np.abs(found - wanted).max() < allowed * np.abs(wanted).max()


def test_a_closed_engine_answers_no_more(network: MANet, captures: Captures) -> None:
    backend = _backend(network, captures)
    backend.close()

    with pytest.raises(RuntimeError, match="closed"):
        backend.infer(noise(1))
