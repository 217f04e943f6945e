"""CUDA graphs for training: the network's forward and backward pass replayed without launching each kernel.

MA-Net runs about two thousand small kernels a step; on a GPU of this decade launching them takes several times as long
as running them at inputs near 64 px.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from manet.nn.model import BranchLogits


class GraphedNetwork(nn.Module):
    """A network in training whose passes are CUDA graphs, captured again when the shape of its input changes.

    Capturing runs the network a few times on the batch at hand, which its BatchNorm statistics see.

    Args:
        model: the network, on a CUDA device; its parameters must stay where they are.
        dtype: number format of the passes; float32 runs without autocast.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self._dtype = model, dtype
        self._captured: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
        self._shape: torch.Size | None = None

    def forward(self, x: Tensor) -> BranchLogits:
        """Return both branches' logits for images (N, 3, H, W)."""
        if self._captured is None or self._shape != x.shape:
            self._captured, self._shape = None, x.shape  # gives back the old graph's memory first
            passes = _Passes(self.model, self._dtype)
            with torch.autocast("cuda", enabled=False):  # the passes have their own
                self._captured = cast(
                    Callable[[Tensor], tuple[Tensor, Tensor]],
                    torch.cuda.make_graphed_callables(passes, (x.detach().clone(),)),
                )
        return BranchLogits(*self._captured(x))


class _Passes(nn.Module):
    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self._dtype = model, dtype

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        # A cast that autocast remembers would belong to one capture and be used in the next.
        with torch.autocast("cuda", self._dtype, enabled=self._dtype != torch.float32, cache_enabled=False):
            return tuple(self.model(x))
