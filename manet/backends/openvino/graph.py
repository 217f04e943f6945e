"""Graph: MA-Net in OpenVINO's operations, built from the numbers in the file of weights.

The blocks are those of ``manet.nn`` under the same names, with each BatchNorm folded into the convolution before it.
A *place* is where an activation is taken up by a convolution or the pooling, and is rounded where the arithmetic is
int8; it is called after what takes it, such as ``layer3_1_p1.0.conv2``. A block's shortcut takes up what its ``conv1``
does. The gates and the heads, a thousandth of the work, are always computed in float32.
"""

from collections.abc import Callable, Sequence

import numpy as np
import openvino
from openvino import Output
from openvino import opset13 as ops

from manet.backends.openvino.arithmetic import Arithmetic, constant, exact
from manet.nn.wiring import PATCHES, SUBSETS, cascade_orders
from manet.vision.preprocess import Preprocessing
from manet.weights.entry import Weights
from manet.weights.parameters import Floats, Parameters

_CHANNELS, _ROWS, _COLUMNS = 1, 2, 3
"""Axes of a map, (N, C, H, W)."""

Block = Callable[[str, Output, int], Output]
"""Adds a block; takes its name with a dot at the end, its input and its stride."""


def build(weights: Weights, parameters: Parameters, arithmetic: Arithmetic) -> openvino.Model:
    """Return the network, from uint8 images (N, S, S, 3) to fused logits, float32 (N, classes); N is any number.

    Args:
        weights: say how images become inputs, how the multi-scale module is wired and how both branches are fused.
        parameters: the numbers.
        arithmetic: how activations and weights are represented.

    Raises:
        CheckpointError: if the arithmetic is int8 and its calibration does not fit.
    """
    side = weights.preprocessing.input_size
    images = ops.parameter([-1, side, side, 3], np.uint8, name="images")
    fused = logits(_normalised(images.output(0), weights.preprocessing), weights, parameters, arithmetic)
    return openvino.Model([fused.get_node()], [images], "manet")


def logits(x: Output, weights: Weights, parameters: Parameters, arithmetic: Arithmetic) -> Output:
    """Add the network without its preprocessing, and return its fused logits, (N, classes).

    Args:
        x: normalised images, float32 (N, 3, H, W) of a height and a width that are known and at least 32.
        weights: as for ``build``.
        parameters: as for ``build``.
        arithmetic: as for ``build``.

    Raises:
        CheckpointError: if the arithmetic is int8 and its calibration does not fit.
    """
    return _Network(weights, parameters, arithmetic).logits(x)


def _normalised(images: Output, spec: Preprocessing) -> Output:
    """Return float32 (N, 3, S, S): scaled to 0..1, less the mean, over the deviation."""
    planes = ops.transpose(ops.convert(images, "f32"), _integers(0, 3, 1, 2))
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (spec.mean, spec.std))
    return ops.add(ops.multiply(planes, constant(1 / (255 * std))), constant(-mean / std)).output(0)


class _Network:
    """The network's blocks, each added to one graph.

    Args:
        weights: say how it is wired and fused.
        parameters: the numbers.
        arithmetic: how activations and weights are represented.
    """

    def __init__(self, weights: Weights, parameters: Parameters, arithmetic: Arithmetic) -> None:
        self._orders = cascade_orders(weights.wiring)
        self._fusion_weight = weights.fusion_weight
        self._parameters = parameters
        self._arithmetic = arithmetic

    def logits(self, x: Output) -> Output:
        """Add everything from normalised images, (N, 3, S, S), to the fused logits, (N, classes)."""
        features = self._pre_extract(x)
        local, multi_scale = self._local(features), self._multi_scale_module(features)
        share = self._fusion_weight
        return ops.add(
            ops.multiply(self._head(local, "fc_1"), constant(share)),
            ops.multiply(self._head(multi_scale, "fc_2"), constant(1 - share)),
        ).output(0)

    def _pre_extract(self, x: Output) -> Output:
        x = _relu(self._convolution(self._at("conv1", x), "conv1", "bn1", stride=2))  # (N, 64, 112, 112) at 224
        # Rounded before it is pooled: the same numbers, and a quarter of the bytes.
        x = ops.max_pool(self._at("max_pool", x), [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
        x = self._stage("layer1", x, 1, self._basic)  # (N, 64, 56, 56)
        return self._stage("layer2", x, 2, self._basic)  # (N, 128, 28, 28)

    def _local(self, features: Output) -> Output:
        patches = [patch for row in _halves(features, _ROWS) for patch in _halves(row, _COLUMNS)]
        maps = [self._patch(k, patch) for k, patch in zip(range(1, PATCHES + 1), patches, strict=True)]
        rows = [ops.concat(maps[k : k + 2], _COLUMNS) for k in (0, 2)]
        return ops.concat(rows, _ROWS).output(0)  # (N, 512, 14, 14)

    def _patch(self, k: int, patch: Output) -> Output:
        x = self._stage(f"layer3_1_p{k}", patch, 2, self._attention)  # (N, 256, 7, 7)
        return self._stage(f"layer4_1_p{k}", x, 1, self._attention)  # (N, 512, 7, 7)

    def _multi_scale_module(self, features: Output) -> Output:
        x = self._stage("layer3_2", features, 2, self._multi_scale)  # (N, 256, 14, 14)
        return self._stage("layer4_2", x, 2, self._multi_scale)  # (N, 512, 7, 7)

    def _stage(self, name: str, x: Output, stride: int, add: Block) -> Output:
        for block, step in (f"{name}.0.", stride), (f"{name}.1.", 1):
            x = add(block, self._at(f"{block}conv1", x), step)
        return x

    def _basic(self, block: str, x: Output, stride: int) -> Output:
        return _relu(ops.add(self._residual(block, x, stride), self._shortcut(block, x, stride)).output(0))

    def _attention(self, block: str, x: Output, stride: int) -> Output:
        gated = self._channel_gate(f"{block}cbam.", self._residual(block, x, stride))
        residual = self._spatial_gate(f"{block}cbam.", gated)
        return _relu(ops.add(residual, self._shortcut(block, x, stride)).output(0))

    def _residual(self, block: str, x: Output, stride: int) -> Output:
        x = _relu(self._convolution(x, f"{block}conv1", f"{block}bn1", stride=stride))
        return self._convolution(self._at(f"{block}conv2", x), f"{block}conv2", f"{block}bn2")

    def _shortcut(self, block: str, x: Output, stride: int) -> Output:
        if f"{block}downsample.0.weight" not in self._parameters:
            return x
        return self._convolution(x, f"{block}downsample.0", f"{block}downsample.1", stride=stride)

    def _multi_scale(self, block: str, x: Output, stride: int) -> Output:
        inner = _relu(self._convolution(x, f"{block}conv1", f"{block}bn1", stride=stride))
        subsets = ops.split(inner, ops.constant(_CHANNELS), SUBSETS).outputs()  # 4 x (N, channels / 4, H, W)
        first, second = (self._cascade(block, k, subsets, order) for k, order in enumerate(self._orders, start=1))
        return _relu(ops.add(ops.add(first, second), self._shortcut(block, x, stride)).output(0))

    def _cascade(self, block: str, cascade: int, subsets: Sequence[Output], order: Sequence[int]) -> Output:
        outputs = list(subsets)
        previous: Output | None = None
        for k in order:
            seen = subsets[k] if previous is None else ops.add(_relu(previous), subsets[k]).output(0)
            name = f"{cascade}_2_{k + 1}"
            seen = self._at(f"{block}conv{name}", seen)
            previous = outputs[k] = self._convolution(seen, f"{block}conv{name}", f"{block}bn{name}")
        return ops.concat(outputs, _CHANNELS).output(0)

    def _channel_gate(self, block: str, x: Output) -> Output:
        area, name = _integers(_ROWS, _COLUMNS), f"{block}ChannelGate.mlp."
        # As one map of two positions, since a small product of matrices takes OpenVINO five times as long.
        pooled = ops.concat([ops.reduce_mean(x, area, True), ops.reduce_max(x, area, True)], _COLUMNS)  # (N, C, 1, 2)
        hidden = _relu(self._pointwise(f"{name}1", pooled.output(0)))
        # The second layer of a sum is the sum of both, with its bias in it twice.
        both = ops.reduce_sum(hidden, _integers(_COLUMNS), True).output(0)  # (N, C / 16, 1, 1)
        return ops.multiply(x, ops.sigmoid(self._pointwise(f"{name}3", both, times=2))).output(0)

    def _spatial_gate(self, block: str, x: Output) -> Output:
        axis, name = _integers(_CHANNELS), f"{block}SpatialGate.spatial."
        pooled = ops.concat([ops.reduce_max(x, axis, True), ops.reduce_mean(x, axis, True)], _CHANNELS)  # (N, 2, H, W)
        weight, bias = self._parameters.folded(f"{name}conv", f"{name}bn")
        gate = _convolved(f"{name}conv", pooled.output(0), exact(weight), bias)
        return ops.multiply(x, ops.sigmoid(gate)).output(0)

    def _head(self, x: Output, name: str) -> Output:
        pooled = ops.reduce_mean(x, _integers(_ROWS, _COLUMNS), True).output(0)  # (N, 512, 1, 1)
        return ops.reshape(self._pointwise(name, pooled), _integers(0, -1), True).output(0)

    def _at(self, place: str, x: Output) -> Output:
        return self._arithmetic.activation(place, x)

    def _convolution(self, x: Output, name: str, norm: str, *, stride: int = 1) -> Output:
        """Add a convolution, with its BatchNorm folded, over an activation that is at a place."""
        weight, bias = self._parameters.folded(name, norm)
        return _convolved(name, x, self._arithmetic.weight(weight), bias, stride=stride)

    def _pointwise(self, name: str, x: Output, *, times: int = 1) -> Output:
        """Add a linear layer at each position of a map, with its bias that many times."""
        kernel = ops.unsqueeze(exact(self._parameters.weight(name)), _integers(_ROWS, _COLUMNS)).output(0)
        return _convolved(name, x, kernel, times * self._parameters.vector(f"{name}.bias"))


def _convolved(name: str, x: Output, kernel: Output, bias: Floats, *, stride: int = 1) -> Output:
    """Return a map convolved, padded by half the kernel, under the layer's name, which OpenVINO's profilers show."""
    margin = [kernel.get_partial_shape()[_ROWS].get_length() // 2] * 2
    found = ops.convolution(x, kernel, [stride] * 2, margin, margin, [1, 1])
    found.set_friendly_name(name)
    return ops.add(found, constant(bias.reshape(1, -1, 1, 1))).output(0)


def _halves(x: Output, axis: int) -> Sequence[Output]:
    """Return a map cut in two, the first half the smaller one where they differ."""
    size = x.get_partial_shape()[axis].get_length()
    half = size // 2

    def part(start: int, stop: int) -> Output:
        return ops.slice(x, _integers(start), _integers(stop), _integers(1), _integers(axis)).output(0)

    return part(0, half), part(half, size)


def _relu(x: Output) -> Output:
    return ops.relu(x).output(0)


def _integers(*values: int) -> openvino.Node:
    return ops.constant(np.array(values, np.int64))
