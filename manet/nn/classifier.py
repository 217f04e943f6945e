"""Network input as the floats that the network takes; the second half of ``manet.preprocess``, beside the network."""

import torch
from torch import Tensor

from manet.preprocess import Preprocessing


def normalised(images: Tensor, spec: Preprocessing) -> Tensor:
    """Return images as the network's input: scaled to 0..1, less the mean, over the deviation, channels last.

    Args:
        images: uint8 (N, 3, S, S), in any memory layout.
        spec: what the weights want.
    """
    mean = torch.tensor(spec.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(spec.std, device=images.device).view(1, 3, 1, 1)
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
