"""Folding: BatchNorm made part of the convolution before it, which halves a network's operations for inference.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, section 3.2.
"""

import copy
from collections.abc import Iterator
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from manet.nn.model import MANet


def folded(network: MANet) -> MANet:
    """Return a copy of a network in eval mode with every BatchNorm folded; its answers differ by rounding only.

    Raises:
        ValueError: if a BatchNorm is left that follows no convolution.
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        for convolution, norm in list(_pairs(module)):
            fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
            setattr(module, convolution, fused)
            setattr(module, norm, nn.Identity())
    left = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if left:
        raise ValueError(f"no convolution before {', '.join(left)}")
    return network


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of a module's convolutions and of the BatchNorm after each.

    In a sequence they follow one another; elsewhere ``conv1`` belongs to ``bn1``, as the authors name them.
    """
    children = dict(module.named_children())
    if isinstance(module, nn.Sequential):
        candidates = list(pairwise(children))
    else:
        candidates = [(name, f"bn{name.removeprefix('conv')}") for name in children if name.startswith("conv")]
    for convolution, norm in candidates:
        if isinstance(children[convolution], nn.Conv2d) and isinstance(children.get(norm), nn.BatchNorm2d):
            yield convolution, norm
