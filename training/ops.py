"""Ops: how a device computes: the weight gradients of tiny maps on CPUs, TF32 on NVIDIA GPUs.

At inputs near 64 px the last stages of MA-Net run 512-channel 3x3 convolutions over 2 x 2 maps. On CPUs without
AVX-512, oneDNN computes their weight gradients at a sixth of the speed of a plain matrix product, and they are a
third of a training step. Same sums in another order: results differ by rounding only.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

MAX_POSITIONS = 16
"""Largest output map, in positions, for which the matrix product is faster (on AVX2 twice as fast at 4 x 4)."""


class _TinyMapConvolution(torch.autograd.Function):
    """A 3x3 convolution with padding 1 whose weight gradient is a matrix product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return conv2d(x, weight, stride=stride, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient, stride = gradients[0], ctx.stride
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        return grad_x, _weight_gradient(x, gradient, stride), None


def _weight_gradient(x: Tensor, gradient: Tensor, stride: int) -> Tensor:
    height, width = gradient.shape[2:]
    padded = pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # (N, H + 2, W + 2, C)
    rows, columns = (height - 1) * stride + 1, (width - 1) * stride + 1
    shifted = [padded[:, i : i + rows : stride, j : j + columns : stride] for i in range(3) for j in range(3)]
    seen = torch.stack(shifted, dim=3).flatten(0, 2).flatten(1)  # (N * H' * W', 9 * C)
    wanted = gradient.permute(0, 2, 3, 1).flatten(0, 2)  # (N * H' * W', C')
    product = wanted.t() @ seen  # (C', 9 * C)
    return product.view(-1, 3, 3, x.shape[1]).permute(0, 3, 1, 2)  # (C', C, 3, 3)


class TinyMapConv2d(nn.Conv2d):
    """A 3x3 convolution that uses the matrix product where its output map is tiny and its dtype float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of maps (N, C, H, W)."""
        stride = self.stride[0]
        positions = -(-x.shape[2] // stride) * -(-x.shape[3] // stride)
        if positions > MAX_POSITIONS or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        return cast(Tensor, _TinyMapConvolution.apply(x, self.weight, stride))


def use_tiny_map_gradients(model: nn.Module) -> None:
    """Give the model's 3x3 convolutions the fast weight gradient; its keys and values are unchanged."""
    for module in model.modules():
        if type(module) is nn.Conv2d and module.kernel_size == (3, 3) and module.padding == (1, 1):
            module.__class__ = TinyMapConv2d


def set_arithmetic(device: torch.device) -> None:
    """Let a GPU compute float32 products in TF32 and benchmark convolution algorithms; leave a CPU unchanged.

    TF32 keeps float32's range with 10 bits of mantissa, and sums in float32: its rounding is below the noise of SGD,
    and weights and gradients stay float32. A run has few shapes, so that benchmarking pays off.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cudnn.conv.fp32_precision = "tf32"  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = True


def arithmetic(device: torch.device) -> dict[str, bool] | None:
    """Return what is set on a GPU, for ``run.json``; None elsewhere."""
    if device.type != "cuda":
        return None
    precisions = {
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
    }
    return {
        "tf32": precisions == {"tf32"},
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }
