"""The CUDA backend on a machine without a CUDA device."""

import torch
from torch import Tensor

from manet.backends.selection import Precision
from manet.backends.torch_cuda import Capture, Captured, CudaBackend
from manet.nn.classifier import FusedClassifier


def plain_call(network: FusedClassifier, images: Tensor) -> Captured:
    """Stand in for a CUDA graph: the network runs as it is, into the same buffer each time."""
    logits = torch.empty(len(images), network.network.num_classes)
    return Captured(images, lambda: logits.copy_(network(images)), logits)


def cuda_backend_on_cpu(
    classifier: FusedClassifier, precision: Precision, *, capture: Capture = plain_call
) -> CudaBackend:
    """Return the backend with its folded network in its number format, on the CPU."""
    return CudaBackend(classifier, torch.device("cpu"), precision, "requested", capture=capture)
