"""Parameters: the network's numbers as NumPy arrays, read from a file of weights without PyTorch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from manet.errors import CheckpointError
from manet.nn.wiring import EPSILON, Wiring
from manet.weights.header import verified_storage
from manet.weights.layout import SCALE, Entry, check_entry, check_keys, heads_first, layout, width_of

LARGEST = 127
"""Largest whole number of an int8 weight; -128 is left out so that the range is symmetric."""

Floats = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Int8Weight:
    """A convolution or linear weight as whole multiples of one step per output channel.

    Attributes:
        whole: -127..127, (channels, ...).
        steps: not negative, (channels,).
    """

    whole: Whole
    steps: Floats

    @classmethod
    def rounded(cls, weight: Floats) -> Self:
        """Return a weight, (channels, ...), rounded to the nearest steps, with each channel's largest at 127."""
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        steps = (largest / LARGEST).astype(np.float32)
        by = along_channels(np.where(steps > 0, steps, np.float32(1)), weight.ndim)  # a channel of zeros stays one
        return cls(np.rint(weight / by).clip(-LARGEST, LARGEST).astype(np.int8), steps)

    def times(self, factors: Floats) -> Self:
        """Return the weight with each output channel multiplied by a factor, (channels,); nothing is rounded."""
        signs = along_channels(np.sign(factors).astype(np.int8), self.whole.ndim)
        return type(self)(self.whole * signs, (self.steps * np.abs(factors)).astype(np.float32))

    def expanded(self) -> Floats:
        """Return it in float32."""
        floats: Floats = self.whole * along_channels(self.steps, self.whole.ndim)
        return floats


Weight = Floats | Int8Weight
"""A convolution or linear weight, output channels first, as it is stored."""


class Parameters:
    """The numbers of one file; see ``read_parameters``.

    Args:
        tensors: the file's, by key, all of them right.
    """

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        self._tensors = tensors

    def __contains__(self, key: str) -> bool:
        return key in self._tensors

    def vector(self, key: str) -> Floats:
        """Return a tensor that is never stored as int8, such as a bias."""
        return self._tensors[key]

    def weight(self, layer: str) -> Weight:
        """Return the weight of a convolution or linear layer, as it is stored."""
        key = f"{layer}.weight"
        whole = self._tensors[key]
        return Int8Weight(whole, self._tensors[key + SCALE]) if key + SCALE in self._tensors else whole

    def folded(self, layer: str, norm: str) -> tuple[Weight, Floats]:
        """Return a convolution with the BatchNorm after it as one: weight and bias.

        A weight that is stored as int8 stays so, as only its steps change.

        Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference", CVPR 2018, section 3.2.
        """
        mean, variance, gain, shift = (
            self.vector(f"{norm}.{name}").astype(np.float64)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        factors = gain / np.sqrt(variance + EPSILON)
        weight = self.weight(layer)
        bias = (shift - factors * mean).astype(np.float32)
        if isinstance(weight, Int8Weight):
            return weight.times(factors.astype(np.float32)), bias
        return (weight * along_channels(factors, weight.ndim)).astype(np.float32), bias


def read_parameters(path: Path, *, num_classes: int, wiring: Wiring, sha256: str | None = None) -> Parameters:
    """Return the parameters of a safetensors file of weights.

    Args:
        path: a file in either storage; one without a header is taken as float32.
        num_classes: how many classes its heads must have.
        wiring: the wiring it must have been trained with; a file without a header has it on the caller's word.
        sha256: what the file must have; None takes the checksum written down beside it. A file with neither is read
            on the caller's word.

    Raises:
        ChecksumError: if the file's SHA-256 is another.
        CheckpointError: if the file cannot be read, or a key, a shape, a type, the class count or the wiring is not
            the expected one, or a value is not finite.
    """
    storage = verified_storage(path, wiring=wiring, sha256=sha256)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: expected a safetensors file, found something else ({error})") from error
    expected = layout(num_classes, storage, width=width_of(tensors))
    check_keys(tensors, expected, path)
    for key in heads_first(expected):
        _check(key, tensors[key], expected[key], path)
    return Parameters(tensors)


def along_channels(values: npt.NDArray[Any], axes: int) -> npt.NDArray[Any]:
    """Return one value for each channel, (channels,), as an array of that many axes, the channels' first."""
    return values.reshape(-1, *[1] * (axes - 1))


def _check(key: str, tensor: npt.NDArray[Any], expected: Entry, path: Path) -> None:
    check_entry(key, tensor.shape, str(tensor.dtype), expected, path)
    # Minimum and maximum carry any NaN or infinity along, and need no second array of the same size.
    least, largest = tensor.min(), tensor.max()
    if not (math.isfinite(least) and math.isfinite(largest)):
        raise CheckpointError(f"{path}: {key}: expected finite values, found NaN or infinity")
    if expected.dtype == "int8" and least < -LARGEST:
        raise CheckpointError(f"{path}: {key}: expected whole numbers from -{LARGEST} to {LARGEST}, found {least}")
