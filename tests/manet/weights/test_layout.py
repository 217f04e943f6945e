"""The layout of a file of weights, against the network's own state dict."""

import pytest
import torch

from manet.nn.model import MANet
from manet.nn.wiring import Wiring
from manet.weights.int8_storage import pack
from manet.weights.layout import layout, width_of


@pytest.mark.parametrize("wiring", ["bidirectional", "unidirectional"])
@pytest.mark.parametrize(("classes", "width"), [(7, 64), (8, 64), (8, 12)])
def test_it_is_the_networks_state_dict(wiring: Wiring, classes: int, width: int) -> None:
    with torch.device("meta"):
        state = MANet(classes, wiring=wiring, width=width).state_dict()

    found = layout(classes, width=width)

    assert width_of(state) == width

    assert list(found) == list(state)
    for key, tensor in state.items():
        assert found[key] == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def test_in_int8_storage_it_is_what_is_packed() -> None:
    with torch.device("meta"):
        state = MANet(8).state_dict()
    packed = pack({key: torch.zeros(tensor.shape, dtype=tensor.dtype) for key, tensor in state.items()})

    found = layout(8, "int8")

    assert list(found) == list(packed)
    for key, tensor in packed.items():
        assert found[key] == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
