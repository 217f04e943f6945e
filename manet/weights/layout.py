"""Layout: the keys, shapes and types of the network's parameters in a file, known without PyTorch.

A test holds it to the state dict of ``manet.nn.model.MANet``; both wirings have the same one.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from manet.errors import CheckpointError
from manet.nn.wiring import PATCHES, REDUCTION, SUBSETS, WIDTH
from manet.weights.header import Storage

SCALE = "_scale"
"""What follows the key of a weight in int8 storage, for the steps of its output channels."""

HEADS = ("fc_1", "fc_2")
"""The two linear layers whose size is the class count."""

Dtype = Literal["float32", "int64", "int8"]


class Entry(NamedTuple):
    """What one tensor of a file must be."""

    shape: tuple[int, ...]
    dtype: Dtype


def layout(num_classes: int, storage: Storage = "float32", *, width: int = WIDTH) -> dict[str, Entry]:
    """Return what a file of weights holds, in the order of the network's state dict.

    Args:
        num_classes: length of both heads.
        storage: how convolution and linear weights are stored.
        width: channels behind the first convolution.
    """
    found: dict[str, Entry] = {}
    for key, shape in _shapes(num_classes, width):
        if key.endswith("num_batches_tracked"):
            found[key] = Entry(shape, "int64")
        elif storage == "int8" and is_quantised(shape):
            found[key] = Entry(shape, "int8")
            found[key + SCALE] = Entry(shape[:1], "float32")
        else:
            found[key] = Entry(shape, "float32")
    return found


def width_of(state: Mapping[str, object]) -> int:
    """Return the width of the network whose tensors, or most of them, these are; the paper's where they do not tell."""
    shape: tuple[int, ...] = tuple(getattr(state.get("conv1.weight"), "shape", ()))
    return shape[0] if shape and shape[0] % SUBSETS == 0 and shape[0] else WIDTH


def is_quantised(shape: tuple[int, ...]) -> bool:
    """Tell whether a tensor of that shape is stored as int8: convolution (4-D) and linear (2-D) weights are."""
    return len(shape) > 1


def check_keys(state: Mapping[str, object], expected: Mapping[str, Entry], path: Path) -> None:
    """Make sure that a file has the keys laid out and no others.

    Raises:
        CheckpointError: about the first key that is missing, or else unexpected.
    """
    for complaint, keys in (
        ("missing", [key for key in expected if key not in state]),
        ("unexpected", [key for key in state if key not in expected]),
    ):
        if keys:
            others = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise CheckpointError(
                f"{path}: {complaint} key {keys[0]!r}{others}; expected {len(expected)} keys, found {len(state)}"
            )


def check_entry(key: str, shape: tuple[int, ...], dtype: str, expected: Entry, path: Path) -> None:
    """Make sure that a tensor has the shape and the type laid out.

    Args:
        key: the tensor's.
        shape: its shape.
        dtype: its type, by the name that NumPy gives it.
        expected: what it must be.
        path: the file, for the message.

    Raises:
        CheckpointError: if it has not.
    """
    if key.startswith(HEADS) and shape[1:] == expected.shape[1:] and shape[:1] != expected.shape[:1]:
        raise CheckpointError(f"{path}: {key}: expected {expected.shape[0]} classes, found {shape[0]}")
    if shape != expected.shape:
        raise CheckpointError(f"{path}: {key}: expected shape {expected.shape}, found {shape}")
    if dtype != expected.dtype:
        raise CheckpointError(f"{path}: {key}: expected {expected.dtype}, found {dtype}")


def heads_first(expected: Mapping[str, Entry]) -> list[str]:
    """Return the keys, the heads' first: where the class count is wrong, all that can be said about it is in them."""
    return sorted(expected, key=lambda key: not key.startswith(HEADS))


Shapes = Iterator[tuple[str, tuple[int, ...]]]
"""Keys, and the shape of each."""


def _shapes(num_classes: int, width: int) -> Shapes:
    yield from _convolution("conv1", "bn1", 3, width, side=7)
    yield from _stage("layer1", width, width, _basic)
    yield from _stage("layer2", width, 2 * width, _basic)
    for patch in range(1, PATCHES + 1):
        yield from _stage(f"layer3_1_p{patch}", 2 * width, 4 * width, _attention)
        yield from _stage(f"layer4_1_p{patch}", 4 * width, 8 * width, _attention)
    yield from _stage("layer3_2", 2 * width, 4 * width, _multi_scale)
    yield from _stage("layer4_2", 4 * width, 8 * width, _multi_scale)
    for head in HEADS:
        yield from _linear(head, 8 * width, num_classes)


def _stage(name: str, inputs: int, channels: int, block: Callable[[str, int, int], Shapes]) -> Shapes:
    yield from block(f"{name}.0.", inputs, channels)
    yield from block(f"{name}.1.", channels, channels)


def _basic(block: str, inputs: int, channels: int) -> Shapes:
    yield from _convolution(f"{block}conv1", f"{block}bn1", inputs, channels)
    yield from _convolution(f"{block}conv2", f"{block}bn2", channels, channels)
    yield from _projection(block, inputs, channels)


def _attention(block: str, inputs: int, channels: int) -> Shapes:
    yield from _basic(block, inputs, channels)
    yield from _linear(f"{block}cbam.ChannelGate.mlp.1", channels, channels // REDUCTION)
    yield from _linear(f"{block}cbam.ChannelGate.mlp.3", channels // REDUCTION, channels)
    spatial = f"{block}cbam.SpatialGate.spatial."
    yield from _convolution(f"{spatial}conv", f"{spatial}bn", 2, 1, side=7)


def _multi_scale(block: str, inputs: int, channels: int) -> Shapes:
    width = channels // SUBSETS
    yield from _convolution(f"{block}conv1", f"{block}bn1", inputs, channels)
    for cascade in (1, 2):
        for step in range(1, SUBSETS + 1):
            name = f"{cascade}_2_{step}"
            yield from _convolution(f"{block}conv{name}", f"{block}bn{name}", width, width)
    yield from _projection(block, inputs, channels)


def _projection(block: str, inputs: int, channels: int) -> Shapes:
    if inputs != channels:
        yield from _convolution(f"{block}downsample.0", f"{block}downsample.1", inputs, channels, side=1)


def _convolution(name: str, norm: str, inputs: int, channels: int, *, side: int = 3) -> Shapes:
    yield f"{name}.weight", (channels, inputs, side, side)
    for vector in ("weight", "bias", "running_mean", "running_var"):
        yield f"{norm}.{vector}", (channels,)
    yield f"{norm}.num_batches_tracked", ()


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)
