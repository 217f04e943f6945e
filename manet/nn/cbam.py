"""Convolutional block attention (CBAM): a channel gate followed by a spatial gate.

Source: Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, as MA-Net uses it in its
local attention module. Attribute names such as ``ChannelGate`` are kept because they are the keys of
the authors' checkpoints.
"""

import torch
from torch import Tensor, nn

from manet.nn.wiring import REDUCTION


class ChannelGate(nn.Module):
    """Weigh each channel by what its average and its maximum over the map say.

    Takes and returns a map of shape (N, channels, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, channels // REDUCTION),
            nn.ReLU(),
            nn.Linear(channels // REDUCTION, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with each channel weighed."""
        average = self.mlp(x.mean(dim=(2, 3), keepdim=True))  # (N, C)
        maximum = self.mlp(x.amax(dim=(2, 3), keepdim=True))  # (N, C)
        gate = torch.sigmoid(average + maximum)
        return x * gate[:, :, None, None]


class _SpatialConvolution(nn.Module):
    """The 7x7 convolution that turns pooled channels into one gate value per position."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)
        # CBAM's own momentum: this one-channel statistic is noisier than its neighbours'.
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class SpatialGate(nn.Module):
    """Weigh each position by what the maximum and the mean over its channels say.

    Takes and returns a map of shape (N, channels, H, W).
    """

    def __init__(self) -> None:
        super().__init__()
        self.spatial = _SpatialConvolution()

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with each position weighed."""
        pooled = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)  # (N, 2, H, W)
        return x * torch.sigmoid(self.spatial(pooled))


class CBAM(nn.Module):
    """The two gates in sequence; takes and returns (N, channels, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with its channels weighed, then its positions."""
        out: Tensor = self.SpatialGate(self.ChannelGate(x))
        return out
