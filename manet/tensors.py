"""Network input as the floats that the network takes; the second half of ``manet.preprocess``, beside the network."""

import torch
from torch import Tensor, nn

from manet.preprocess import Preprocessing


class Normalise(nn.Module):
    """From bytes to the network's input: scaled to 0..1, less the mean, over the deviation, channels last.

    Mean and deviation are buffers, so that they lie where the network lies: made in every call, they would be copied
    to a GPU each time, and wait for it.

    Args:
        spec: what the weights want.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Preprocessing) -> None:
        super().__init__()
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 (N, 3, S, S) of images (N, 3, S, S), values 0..255, in any memory layout."""
        return ((images.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
