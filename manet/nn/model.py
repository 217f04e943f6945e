"""MA-Net: one feature pre-extractor, a local attention module and a multi-scale module.

Source: Zhao, Liu, Wang, "Learning Deep Global Multi-Scale and Local Attention Features for Facial Expression
Recognition in the Wild", IEEE Transactions on Image Processing 30, 2021. Parameter names are those of the
authors' checkpoints (692 keys; 50,547,214 parameters at 7 classes; 3.645 GMAC at 224 x 224).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d, relu

from manet.nn.blocks import AttentionBlock, BasicBlock, MultiScaleBlock
from manet.nn.wiring import PATCHES, WIDTH, Wiring, check_width

MIN_INPUT_SIZE = 32
"""Smallest side, in pixels, that leaves each patch at least one position wide."""


class BranchLogits(NamedTuple):
    """What the two branches say, each of shape (N, num_classes), before softmax."""

    local: Tensor
    multi_scale: Tensor


def fuse(logits: BranchLogits, fusion_weight: float) -> Tensor:
    """Return the decision-level fusion of both branches, shape (N, num_classes).

    Args:
        logits: the branches' logits.
        fusion_weight: the paper's lambda in [0, 1], the local branch's share (0.6 in the paper, section IV-B).
    """
    return fusion_weight * logits.local + (1 - fusion_weight) * logits.multi_scale


class MANet(nn.Module):
    """The network; maps images (N, 3, H, W) to the logits of both branches.

    Any height and width of at least 32 px works: the patch cuts follow the feature map's own size, and at
    224 x 224 equal the authors' fixed 14:28.

    Args:
        num_classes: length of both heads.
        wiring: direction of the second multi-scale cascade; see ``manet.nn.wiring.Wiring``.
        width: channels behind the first convolution, a multiple of 4; 64 is the paper's, and what the shapes below say.

    Raises:
        ValueError: if ``wiring`` is not one of the two known, or ``width`` is not a positive multiple of 4.
    """

    def __init__(self, num_classes: int = 7, *, wiring: Wiring = "bidirectional", width: int = WIDTH) -> None:
        super().__init__()
        if wiring not in ("bidirectional", "unidirectional"):
            raise ValueError(f"wiring must be 'bidirectional' or 'unidirectional', not {wiring!r}")
        check_width(width)
        self.num_classes = num_classes
        self.wiring: Wiring = wiring
        self.width = width

        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(BasicBlock(width, width), BasicBlock(width, width))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, stride=2), BasicBlock(2 * width, 2 * width))

        for patch in range(1, PATCHES + 1):
            self.add_module(f"layer3_1_p{patch}", _attention_stage(2 * width, 4 * width, stride=2))
            # Stride 1: a patch keeps its resolution to the end, unlike the multi-scale branch.
            self.add_module(f"layer4_1_p{patch}", _attention_stage(4 * width, 8 * width, stride=1))
        self.layer3_2 = _multi_scale_stage(2 * width, 4 * width, wiring)
        self.layer4_2 = _multi_scale_stage(4 * width, 8 * width, wiring)

        self.fc_1 = nn.Linear(8 * width, num_classes)
        self.fc_2 = nn.Linear(8 * width, num_classes)
        self._initialise()

    def forward(self, images: Tensor) -> BranchLogits:
        """Return both branches' logits for images (N, 3, H, W), RGB, normalised as the weights want it."""
        features = self.pre_extract(images)
        return BranchLogits(self.fc_1(self._local(features)), self.fc_2(self.multi_scale(features)))

    def pre_extract(self, images: Tensor) -> Tensor:
        """Return the features that both branches see, (N, 128, H / 8, W / 8)."""
        x = relu(self.bn1(self.conv1(images)))  # (N, 64, 112, 112) at 224
        x = max_pool2d(x, kernel_size=3, stride=2, padding=1)  # (N, 64, 56, 56)
        out: Tensor = self.layer2(self.layer1(x))  # (N, 128, 28, 28)
        return out

    def _local(self, features: Tensor) -> Tensor:
        row, column = features.shape[2] // 2, features.shape[3] // 2
        upper, lower = features[:, :, :row], features[:, :, row:]
        patches = (upper[..., :column], upper[..., column:], lower[..., :column], lower[..., column:])
        p1, p2, p3, p4 = (self._patch(k, patch) for k, patch in enumerate(patches, start=1))  # (N, 512, 7, 7)
        whole = torch.cat((torch.cat((p1, p2), dim=3), torch.cat((p3, p4), dim=3)), dim=2)  # (N, 512, 14, 14)
        return _pool(whole)

    def _patch(self, k: int, patch: Tensor) -> Tensor:
        layer3, layer4 = self.get_submodule(f"layer3_1_p{k}"), self.get_submodule(f"layer4_1_p{k}")
        out: Tensor = layer4(layer3(patch))  # (N, 128, 14, 14) -> (N, 256, 7, 7) -> (N, 512, 7, 7)
        return out

    def multi_scale(self, features: Tensor) -> Tensor:
        """Return what the multi-scale module makes of the features, averaged over its positions, (N, 512)."""
        return _pool(self.layer4_2(self.layer3_2(features)))  # (N, 256, 14, 14) -> (N, 512, 7, 7) -> (N, 512)

    def _initialise(self) -> None:
        for module in self.modules():
            # There is nothing to draw behind a meta tensor, and PyTorch loads its compiler to find that out.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _attention_stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(AttentionBlock(in_channels, channels, stride), AttentionBlock(channels, channels))


def _multi_scale_stage(in_channels: int, channels: int, wiring: Wiring) -> nn.Sequential:
    return nn.Sequential(
        MultiScaleBlock(in_channels, channels, stride=2, wiring=wiring),
        MultiScaleBlock(channels, channels, wiring=wiring),
    )


def _pool(features: Tensor) -> Tensor:
    return adaptive_avg_pool2d(features, 1).flatten(1)  # (N, 512)
