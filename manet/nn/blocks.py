"""The three residual blocks of MA-Net: plain, attention and multi-scale.

Source: Zhao, Liu, Wang, IEEE TIP 2021, section III. Every block maps (N, in_channels, H, W) to
(N, channels, ceil(H / stride), ceil(W / stride)). Attribute names are the keys of the authors' checkpoints.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from manet.nn.cbam import CBAM
from manet.nn.wiring import SUBSETS, Wiring, cascade_orders


def conv3x3(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a padded 3x3 convolution without bias."""
    return nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)


def _projection(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    """Return the shortcut's 1x1 projection, or None where input and output already have one shape."""
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False),
        nn.BatchNorm2d(channels),
    )


class BasicBlock(nn.Module):
    """The two-convolution residual block of ResNet-18 (He et al., CVPR 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rectified sum of residual and shortcut."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return relu(self._residual(x) + shortcut)

    def _residual(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return out


class AttentionBlock(BasicBlock):
    """A basic block whose residual passes through CBAM; the local attention module is made of it."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, channels, stride)
        self.cbam = CBAM(channels)

    def _residual(self, x: Tensor) -> Tensor:
        out: Tensor = self.cbam(super()._residual(x))
        return out


class MultiScaleBlock(nn.Module):
    """A residual block whose second convolution is two cascades over four channel subsets.

    In a cascade each subset's 3x3 convolution also sees the previous one's output, so receptive fields of four
    sizes stand side by side in the result (paper, section III-B and figure 4).
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, wiring: Wiring) -> None:
        super().__init__()
        width = channels // SUBSETS
        self.orders = cascade_orders(wiring)
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        for cascade in (1, 2):
            for step in range(1, SUBSETS + 1):
                self.add_module(f"conv{cascade}_2_{step}", conv3x3(width, width))
                self.add_module(f"bn{cascade}_2_{step}", nn.BatchNorm2d(width))
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rectified sum of both cascades and the shortcut."""
        shortcut = x if self.downsample is None else self.downsample(x)
        subsets = relu(self.bn1(self.conv1(x))).chunk(SUBSETS, dim=1)  # 4 x (N, channels / 4, H, W)
        first, second = (self._cascade(k, subsets, order) for k, order in enumerate(self.orders, start=1))
        return relu(first + second + shortcut)

    def _cascade(self, cascade: int, subsets: Sequence[Tensor], order: Iterable[int]) -> Tensor:
        outputs = list(subsets)
        previous: Tensor | None = None
        for k in order:
            seen = subsets[k] if previous is None else relu(previous) + subsets[k]
            conv = self.get_submodule(f"conv{cascade}_2_{k + 1}")
            norm = self.get_submodule(f"bn{cascade}_2_{k + 1}")
            previous = outputs[k] = norm(conv(seen))
        return torch.cat(outputs, dim=1)  # each subset's output in its own place, whichever way the cascade ran
