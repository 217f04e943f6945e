"""Arithmetic: how float32 is computed on NVIDIA GPUs, set in one place and told in a run's facts."""

import torch


def set_arithmetic(device: torch.device) -> None:
    """Have a GPU compute float32 products in TF32 and measure which convolution is fastest; leave a CPU as it is.

    TF32 keeps float32's range with 10 bits of mantissa, and sums in float32: its rounding lies below what SGD's noise
    changes, and weights and gradients stay float32. The shapes of a run are few, so that measuring pays off.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cudnn.conv.fp32_precision = "tf32"  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = True


def arithmetic(device: torch.device) -> dict[str, bool] | None:
    """Return for a run's facts what is set on a GPU; None elsewhere."""
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
