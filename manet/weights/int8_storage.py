"""Int8 storage: a weight as whole multiples of one step per output channel.

It makes files four times smaller, not arithmetic faster: what is read is expanded to float32 at once. Quantisation
is symmetric (no zero point), the step of a channel is its largest magnitude over 127, and the steps lie beside the
weight under its key with ``_scale`` added. An expanded weight is off by at most half a step.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from manet.weights.layout import SCALE, is_quantised
from manet.weights.parameters import LARGEST


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight as int8 of the same shape, and its steps, float32 (channels,).

    Args:
        weight: float32, output channels first, with at least two dimensions and finite values.
    """
    scale = weight.flatten(1).abs().amax(dim=1) / LARGEST  # (channels,)
    # A channel of nothing but zeros has step 0; dividing by 1 instead keeps its zeros.
    step = _along_channels(torch.where(scale > 0, scale, torch.ones_like(scale)), weight)
    return (weight / step).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


def expand(whole: Tensor, scale: Tensor) -> Tensor:
    """Return the float32 weight that ``quantise`` made these from, up to half a step."""
    return whole.to(torch.float32).mul_(_along_channels(scale, whole))


def pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in int8 storage: weights as int8 with their scales, the rest as it is."""
    packed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if is_quantised(tuple(tensor.shape)):
            packed[key], packed[key + SCALE] = quantise(tensor)
        else:
            packed[key] = tensor
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict that ``pack`` made these tensors from, up to half a step."""
    return {
        key: expand(tensor, packed[key + SCALE]) if is_quantised(tuple(tensor.shape)) else tensor
        for key, tensor in packed.items()
        if not key.endswith(SCALE)
    }


def _along_channels(steps: Tensor, weight: Tensor) -> Tensor:
    return steps.reshape(-1, *[1] * (weight.ndim - 1))
