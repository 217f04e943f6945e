"""Arithmetic: how a network's activations and weights are represented, in float32 or rounded to int8."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
from openvino import Output
from openvino import opset13 as ops

from manet.backends.openvino.calibration import LEVELS, Calibration
from manet.errors import CheckpointError
from manet.weights.parameters import Int8Weight, Weight, along_channels


class Arithmetic(Protocol):
    """Puts activations and weights into a graph as they are to be computed with."""

    def activation(self, place: str, x: Output) -> Output:
        """Return what is computed with at a place, in the stead of an activation."""

    def weight(self, weight: Weight) -> Output:
        """Return the weight of a convolution whose activation is at a place."""


class Float32:
    """Everything as it is; in bf16, too, which OpenVINO makes of it when it compiles."""

    def activation(self, place: str, x: Output) -> Output:
        """Return the activation."""
        return x

    def weight(self, weight: Weight) -> Output:
        """Return the weight in float32."""
        return exact(weight)


class Int8:
    """Activations in 256 steps between two ends, weights in 255 for each output channel.

    Source: Nagel et al., "A White Paper on Neural Network Quantization", 2021.

    Args:
        calibration: the ends.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._ranges = calibration.ranges

    def activation(self, place: str, x: Output) -> Output:
        """Return the activation, rounded.

        Raises:
            CheckpointError: if the calibration does not know the place.
        """
        if place not in self._ranges:
            raise CheckpointError(f"the int8 calibration has no range for {place}; `manet-train quantize` makes one")
        low, high = (constant(end) for end in self._ranges[place])
        return ops.fake_quantize(x, low, high, low, high, LEVELS).output(0)

    def weight(self, weight: Weight) -> Output:
        """Return the weight as whole numbers times their steps, a form in which OpenVINO leaves them."""
        rounded = weight if isinstance(weight, Int8Weight) else Int8Weight.rounded(weight)
        whole = ops.convert(ops.constant(rounded.whole, shared_memory=True), "f32")
        return ops.multiply(whole, constant(along_channels(rounded.steps, rounded.whole.ndim))).output(0)


def exact(weight: Weight) -> Output:
    """Return a weight in float32 as a part of a graph."""
    return constant(weight.expanded() if isinstance(weight, Int8Weight) else weight)


def constant(values: npt.ArrayLike) -> Output:
    """Return float32 numbers as a part of a graph, which holds on to an array of that type instead of a copy of it."""
    return ops.constant(np.asarray(values, np.float32), shared_memory=True).output(0)
