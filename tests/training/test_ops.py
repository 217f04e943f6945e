"""A fast weight gradient that equals the library's to rounding; a GPU's fast arithmetic, and a run that names it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from manet.nn.model import MANet
from training.distributed import default_workers
from training.ops import TinyMapConv2d, arithmetic, set_arithmetic, use_tiny_map_gradients


@pytest.fixture
def _put_back() -> Iterator[None]:
    """Begin with nothing set, and leave PyTorch as it was."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn  # PyTorch sets its ``conv`` in a way that mypy does not see
    conv = cudnn.conv
    before = matmul.fp32_precision, conv.fp32_precision, torch.backends.cudnn.benchmark
    matmul.fp32_precision, conv.fp32_precision, torch.backends.cudnn.benchmark = "ieee", "tf32", False
    yield
    matmul.fp32_precision, conv.fp32_precision, torch.backends.cudnn.benchmark = before


@pytest.mark.usefixtures("_put_back")
def test_a_gpu_computes_in_tf32_and_measures_convolutions() -> None:
    device = torch.device("cuda")
    assert arithmetic(device) == {"tf32": False, "cudnn_benchmark": False}

    set_arithmetic(device)

    assert arithmetic(device) == {"tf32": True, "cudnn_benchmark": True}


@pytest.mark.usefixtures("_put_back")
def test_a_cpu_is_left_as_it_is() -> None:
    set_arithmetic(torch.device("cpu"))

    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert not torch.backends.cudnn.benchmark
    assert arithmetic(torch.device("cpu")) is None


def test_workers_are_as_many_as_the_cores_of_a_process_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.distributed.available_cpus", lambda: 16)

    assert default_workers(torch.device("cuda"), {}) == 15
    assert default_workers(torch.device("cuda"), {"LOCAL_WORLD_SIZE": "4"}) == 3
    assert default_workers(torch.device("cuda"), {"LOCAL_WORLD_SIZE": "16"}) == 1
    assert default_workers(torch.device("cpu"), {}) == 0


@pytest.mark.parametrize(("stride", "side"), [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4), (2, 8), (1, 9)])
def test_same_values_and_gradients(stride: int, side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, stride, 1, bias=False).double()
    x = torch.randn(2, 3, side, side + 1, dtype=torch.float64, generator=generator, requires_grad=True)
    wanted = convolution(x)
    upstream = torch.randn(wanted.shape, dtype=torch.float64, generator=generator)
    wanted_gradients = torch.autograd.grad(wanted, (x, convolution.weight), upstream)

    use_tiny_map_gradients(nn.Sequential(convolution))
    found = convolution(x)

    assert type(convolution) is TinyMapConv2d
    assert torch.equal(found, wanted)
    for a, b in zip(torch.autograd.grad(found, (x, convolution.weight), upstream), wanted_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_only_padded_3x3_convolutions_change_and_no_key_does() -> None:
    model = MANet(8)
    keys = list(model.state_dict())

    use_tiny_map_gradients(model)

    assert list(model.state_dict()) == keys
    assert type(model.conv1) is nn.Conv2d
    assert type(model.get_submodule("layer4_2.1.conv2_2_4")) is TinyMapConv2d
    assert type(model.get_submodule("layer2.0.downsample.0")) is nn.Conv2d
