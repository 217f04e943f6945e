"""Calibration: what int8 arithmetic must know of a network beforehand, and the network with it applied.

Post-training quantisation (Nagel et al., "A White Paper on Neural Network Quantization", 2021) needs the range of each
activation on real faces. NNCF measures the ranges, and by how much rounding moves each mean, once and on a machine that
has images; the result is a small file beside the weights, and any machine builds the int8 network from the two.

Weights are rounded to 255 steps, symmetric, for each output channel; activations to 256 steps between their ranges.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import openvino
from openvino import opset13
from openvino._offline_transformations import compress_quantize_weights_transformation
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from manet.errors import CheckpointError
from manet.vision.preprocess import Pixels

_ACTIVATION_LEVELS, _WEIGHT_LEVELS = 256, 255

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """The ranges for one exported network. Operations are counted in the network's order, constants left out.

    Attributes:
        fingerprint: SHA-256 of the network's operations, in hexadecimal; the calibration fits no other network.
        activations: (A, 2) operation and input port of each activation that is rounded.
        ranges: (A, 2) least and largest value of each.
        weights: (W, 2) operation and input port of each weight that is rounded.
        biases: operation to the bias that makes up for the rounding, in the bias's own shape.
    """

    fingerprint: str
    activations: Places
    ranges: Floats
    weights: Places
    biases: dict[int, Floats]

    def save(self, path: Path) -> None:
        """Write it to a file."""
        arrays: dict[str, npt.NDArray[Any]] = {f"bias.{place}": bias for place, bias in self.biases.items()}
        arrays |= {"activations": self.activations, "ranges": self.ranges, "weights": self.weights}
        arrays["fingerprint"] = np.frombuffer(bytes.fromhex(self.fingerprint), np.uint8)
        save_file(arrays, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return what ``save`` wrote.

        Raises:
            CheckpointError: if the file is something else.
            OSError: if it cannot be read.
        """
        try:
            arrays = load_file(path)
            biases = {int(name.removeprefix("bias.")): arrays[name] for name in arrays if name.startswith("bias.")}
            return cls(
                arrays["fingerprint"].tobytes().hex(),
                arrays["activations"],
                arrays["ranges"],
                arrays["weights"],
                biases,
            )
        except (SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path.name} is no calibration: {error}") from error


def calibrate(network: openvino.Model, images: Sequence[Pixels]) -> Calibration:
    """Return the calibration of an exported network, measured by NNCF (package ``nncf``).

    Args:
        network: uint8 (N, S, S, 3) to logits; it is left as it is.
        images: network inputs, (S, S, 3) each; some three hundred of the kind that will be seen.
    """
    # Tools for making weights; a service does not have them.
    import nncf  # noqa: PLC0415
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters  # noqa: PLC0415
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet  # noqa: PLC0415

    # The whole range: NNCF takes the mean of the images' largest values, which cuts off what is above, layer
    # after layer, and made the logits a tenth smaller.
    ranges_seen = AdvancedQuantizationParameters(activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)

    rounded = nncf.quantize(
        network.clone(),
        nncf.Dataset([image[None] for image in images]),
        preset=nncf.QuantizationPreset.MIXED,  # activations with negative values get a zero point
        subset_size=len(images),
        advanced_parameters=ranges_seen,
    )
    after = {op.get_friendly_name(): op for op in rounded.get_ops()}
    activations: list[tuple[int, int]] = []
    ranges: list[tuple[float, float]] = []
    weights: list[tuple[int, int]] = []
    biases: dict[int, Floats] = {}
    for place, op in enumerate(_operations(network)):
        twin = after[op.get_friendly_name()]
        for port, (before, now) in enumerate(zip(op.inputs(), twin.inputs(), strict=True)):
            source, found = before.get_source_output().get_node(), now.get_source_output().get_node()
            constant = source.get_type_name() == "Constant"
            if constant and op.get_type_name() == "Add" and found.get_type_name() == "Constant":
                if not np.array_equal(source.data, found.data):
                    biases[place] = np.array(found.data, np.float32)
            elif constant and found.get_type_name() != "Constant":
                weights.append((place, port))
            elif found.get_type_name() == "FakeQuantize":
                low, high = (found.input_value(edge).get_node().data for edge in (1, 2))
                activations.append((place, port))
                ranges.append((float(low.item()), float(high.item())))
    return Calibration(
        _fingerprint(network),
        np.array(activations, np.int64),
        np.array(ranges, np.float32),
        np.array(weights, np.int64),
        biases,
    )


def apply(network: openvino.Model, calibration: Calibration) -> None:
    """Turn an exported network into one that OpenVINO runs in int8, in place.

    Raises:
        CheckpointError: if the calibration was made for another network, or by another version of the export.
    """
    if _fingerprint(network) != calibration.fingerprint:
        raise CheckpointError(
            "the int8 calibration was made for another network; `manet-train calibrate` makes one for this"
        )
    operations = _operations(network)
    for place, bias in calibration.biases.items():
        [port] = [
            i for i in operations[place].inputs() if i.get_source_output().get_node().get_type_name() == "Constant"
        ]
        port.replace_source_output(opset13.constant(bias).output(0))
    for place, number in calibration.weights.tolist():
        port = operations[place].input(number)
        values = port.get_source_output().get_node().data
        largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
        largest[largest == 0] = 1  # a channel of zeros stays one
        port.replace_source_output(_rounded(port.get_source_output(), -largest, largest, _WEIGHT_LEVELS))
    shared: dict[tuple[str, int, float, float], openvino.Output] = {}
    for (place, number), (low, high) in zip(calibration.activations.tolist(), calibration.ranges.tolist(), strict=True):
        port = operations[place].input(number)
        source = port.get_source_output()
        key = (source.get_node().get_friendly_name(), source.get_index(), low, high)
        if key not in shared:
            shared[key] = _rounded(source, np.float32(low), np.float32(high), _ACTIVATION_LEVELS)
        port.replace_source_output(shared[key])
    compress_quantize_weights_transformation(network)


def _rounded(source: openvino.Output, low: Any, high: Any, levels: int) -> openvino.Output:
    limits = [opset13.constant(np.asarray(limit, np.float32)) for limit in (low, high)]
    return opset13.fake_quantize(source, *limits, *limits, levels).output(0)


def _operations(network: openvino.Model) -> list[openvino.Node]:
    return [op for op in network.get_ordered_ops() if op.get_type_name() != "Constant"]


def _fingerprint(network: openvino.Model) -> str:
    """Return a hash of the operations and of what each takes from which."""
    operations = _operations(network)
    places = {op.get_friendly_name(): place for place, op in enumerate(operations)}
    sources = (
        [places.get(i.get_source_output().get_node().get_friendly_name(), -1) for i in op.inputs()] for op in operations
    )
    lines = (f"{op.get_type_name()} {edges}" for op, edges in zip(operations, sources, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
