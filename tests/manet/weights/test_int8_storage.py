"""Int8 storage of weights."""

import pytest
import torch

from manet.weights.int8_storage import expand, pack, quantise, unpack


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (4, 10)])
def test_an_expanded_weight_is_off_by_half_a_step_at_most(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    # Channels of very different magnitude: one step for all of them would lose the small ones.
    size = torch.logspace(-6, 3, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    weight = torch.randn(shape, generator=generator) * size
    whole, scale = quantise(weight)
    assert whole.dtype == torch.int8
    assert scale.shape == shape[:1]
    off = (expand(whole, scale) - weight).abs().flatten(1).amax(dim=1)
    assert (off <= scale * 0.501).all()


def test_the_largest_magnitude_is_127_either_way() -> None:
    whole, scale = quantise(torch.tensor([[-2.54, 1.0], [1.0, 2.54]]))
    assert whole.tolist() == [[-127, 50], [50, 127]]
    torch.testing.assert_close(scale, torch.tensor([0.02, 0.02]))


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    whole, scale = quantise(weight)
    assert scale[0] == 0
    assert torch.equal(expand(whole, scale), weight)


def test_pack_takes_only_weights_and_unpack_returns_all() -> None:
    state = {
        "conv.weight": torch.tensor([[[[1.0]]], [[[2.0]]]]),
        "bn.running_var": torch.tensor([0.3, 0.7]),
        "bn.num_batches_tracked": torch.tensor(7),
    }
    packed = pack(state)
    assert list(packed) == ["conv.weight", "conv.weight_scale", "bn.running_var", "bn.num_batches_tracked"]
    assert packed["bn.running_var"] is state["bn.running_var"]
    unpacked = unpack(packed)
    assert unpacked.keys() == state.keys()
    torch.testing.assert_close(unpacked["conv.weight"], state["conv.weight"])
