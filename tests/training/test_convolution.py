"""The fast weight gradient equals the library's, in float64, to rounding."""

import pytest
import torch
from torch import nn

from manet.nn.model import MANet
from training.convolution import TinyMapConv2d, speed_up_tiny_maps


@pytest.mark.parametrize(("stride", "side"), [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4), (2, 8), (1, 9)])
def test_same_values_and_gradients(stride: int, side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, stride, 1, bias=False).double()
    x = torch.randn(2, 3, side, side + 1, dtype=torch.float64, generator=generator, requires_grad=True)
    wanted = convolution(x)
    upstream = torch.randn(wanted.shape, dtype=torch.float64, generator=generator)
    wanted_gradients = torch.autograd.grad(wanted, (x, convolution.weight), upstream)

    speed_up_tiny_maps(nn.Sequential(convolution))
    found = convolution(x)

    assert type(convolution) is TinyMapConv2d
    assert torch.equal(found, wanted)
    for a, b in zip(torch.autograd.grad(found, (x, convolution.weight), upstream), wanted_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_only_padded_3x3_convolutions_change_and_no_key_does() -> None:
    model = MANet(8)
    keys = list(model.state_dict())

    speed_up_tiny_maps(model)

    assert list(model.state_dict()) == keys
    assert type(model.conv1) is nn.Conv2d
    assert type(model.get_submodule("layer4_2.1.conv2_2_4")) is TinyMapConv2d
    assert type(model.get_submodule("layer2.0.downsample.0")) is nn.Conv2d
