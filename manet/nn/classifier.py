"""Classifier: the network between images as bytes and fused logits; the second half of ``manet.vision.preprocess``."""

from pathlib import Path

import torch
from torch import Tensor, nn

from manet.nn.model import MANet, fuse
from manet.vision.preprocess import Preprocessing
from manet.weights.checkpoint import load_model
from manet.weights.entry import Weights
from manet.weights.registry import locate


def normalised(images: Tensor, spec: Preprocessing) -> Tensor:
    """Return images as the network's input: scaled to 0..1, less the mean, over the deviation, channels last.

    Args:
        images: uint8 (N, 3, S, S), in any memory layout.
        spec: what the weights want.
    """
    mean = torch.tensor(spec.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(spec.std, device=images.device).view(1, 3, 1, 1)
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


class FusedClassifier(nn.Module):
    """From images as bytes to fused logits: normalisation, both branches, their fusion.

    Args:
        network: in eval mode.
        spec: the weights' preprocessing.
        fusion_weight: the local branch's share, 0..1.
    """

    def __init__(self, network: MANet, spec: Preprocessing, fusion_weight: float) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.fusion_weight = fusion_weight

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 logits (N, classes) of uint8 images (N, S, S, 3)."""
        x = normalised(images.permute(0, 3, 1, 2), self.spec)  # (N, 3, S, S)
        return fuse(self.network(x), self.fusion_weight)


def load_classifier(weights: Weights, store: Path | None) -> FusedClassifier:
    """Return the network with the parameters of the weights' file, and what belongs to it."""
    network = load_model(
        locate(weights, store), num_classes=len(weights.classes), wiring=weights.wiring, sha256=weights.sha256
    )
    return FusedClassifier(network, weights.preprocessing, weights.fusion_weight)
