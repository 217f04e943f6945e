"""Classifier: the network between images as bytes and fused logits; the second half of ``manet.vision.preprocess``."""

from pathlib import Path

import torch
from torch import Tensor, nn

from manet.nn.model import MANet, fuse
from manet.vision.preprocess import Preprocessing
from manet.weights.checkpoint import load_model
from manet.weights.entry import Weights
from manet.weights.registry import locate


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
        """Return float32 (N, 3, S, S) of images with values 0..255, in any memory layout.

        Args:
            images: (N, 3, S, S), or (N, 1, S, S) where the channels are equal.
        """
        return ((images.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


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
        self.normalise = Normalise(spec)
        self.fusion_weight = fusion_weight

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 logits (N, classes) of uint8 images (N, S, S, 3)."""
        x = self.normalise(images.permute(0, 3, 1, 2))  # (N, 3, S, S)
        return fuse(self.network(x.to(self.network.fc_1.weight.dtype)), self.fusion_weight).float()


def load_classifier(weights: Weights, store: Path | None) -> FusedClassifier:
    """Return the network with the parameters of the weights' file, and what belongs to it."""
    network = load_model(
        locate(weights, store), num_classes=len(weights.classes), wiring=weights.wiring, sha256=weights.sha256
    )
    return FusedClassifier(network, weights.preprocessing, weights.fusion_weight)
