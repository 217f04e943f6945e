"""Ranges: between which ends the activations of some weights lie, measured on images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino
from openvino import Output
from openvino import opset13 as ops

from manet.backends.openvino.arithmetic import Float32
from manet.backends.openvino.calibration import with_zero
from manet.backends.openvino.graph import build
from manet.backends.openvino.runtime import core
from manet.vision.preprocess import Pixels
from manet.weights.entry import Weights
from manet.weights.parameters import read_parameters

_BATCH = 25
"""Images that the network is given at once."""


class _Watched(Float32):
    """Float32 arithmetic that notes the activation at each place."""

    def __init__(self) -> None:
        self.activations: dict[str, Output] = {}

    def activation(self, place: str, x: Output) -> Output:
        """Return the activation."""
        self.activations[place] = x
        return x


def ranges(weights: Weights, path: Path, images: Sequence[Pixels]) -> Mapping[str, tuple[float, float]]:
    """Return the ends of the activations at each place, over all of the images.

    The whole range: to cut off the rarest values costs more, layer after layer, than finer steps gain.

    Args:
        weights: what the file holds.
        path: the file of weights.
        images: network inputs, (S, S, 3) each, at least one.

    Raises:
        CheckpointError: if the file is not what it should be.
    """
    parameters = read_parameters(path, num_classes=len(weights.classes), wiring=weights.wiring, sha256=weights.sha256)
    watched = _Watched()
    graph = build(weights, parameters, watched)
    everything = ops.constant(np.arange(4))
    for reduce in (ops.reduce_min, ops.reduce_max):
        graph.add_outputs([reduce(x, everything, False).output(0) for x in watched.activations.values()])
    network = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    batches = [np.stack(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    seen = np.array([_ends(network, batch) for batch in batches]).reshape(len(batches), 2, -1)
    least, largest = seen[:, 0].min(axis=0).tolist(), seen[:, 1].max(axis=0).tolist()
    return {place: with_zero(low, high) for place, low, high in zip(watched.activations, least, largest, strict=True)}


def _ends(network: openvino.CompiledModel, batch: Pixels) -> list[float]:
    """Return the least value at each place, and then the largest at each."""
    found = network(batch)
    return [float(found[place]) for place in range(1, len(network.outputs))]  # the first output is the logits
