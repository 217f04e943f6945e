"""Checkpoints: the network's parameters on disk.

This project's own are safetensors files with a header (``manet.weights.header``), which hold numbers and nothing
that could run. The authors' are pickles, which could; they are read with PyTorch's restricted unpickler, and nothing
else.
"""

import math
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from manet.errors import CheckpointError
from manet.files import atomic_write, refuse_html_page, sha256_of
from manet.nn.model import MANet
from manet.nn.wiring import Wiring
from manet.weights.header import Header, verified_storage
from manet.weights.int8_storage import pack, unpack
from manet.weights.layout import HEADS, Entry, check_entry, check_keys, heads_first, layout, width_of

MOST_NAMED = 5
"""Keys of a dict that are named where it is not what was expected."""


def save_weights(source: MANet | Mapping[str, Tensor], path: Path, header: Header) -> str:
    """Write parameters as a safetensors file, and return the file's SHA-256.

    A reader of ``path`` sees the old file or the new one, never half of it.

    Args:
        source: a network, or its state dict with all its keys.
        path: where the file is to be.
        header: what the file says of itself; its ``storage`` decides between float32 and int8.

    Raises:
        CheckpointError: if a key, a shape, a type, the class count or the wiring is not what the header promises, or
            a value is not finite.
        OSError: if the file cannot be written.
    """
    state = source.state_dict() if isinstance(source, MANet) else source
    if isinstance(source, MANet) and source.wiring != header.wiring:
        raise CheckpointError(f"{path}: expected wiring {header.wiring}, found {source.wiring}")
    _check(state, layout(len(header.classes), width=width_of(state)), path)
    stored = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    if header.storage == "int8":
        stored = pack(stored)
    atomic_write(path, lambda part: save_file(stored, part, metadata=header.as_metadata()))
    return sha256_of(path)


def load_model(path: Path, *, num_classes: int, wiring: Wiring, sha256: str | None = None) -> MANet:
    """Return the network with the parameters of a safetensors file, in eval mode, on the CPU, in float32.

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
    stored = _read_tensors(path)
    _check(stored, layout(num_classes, storage, width=width_of(stored)), path)
    return _model(unpack(stored) if storage == "int8" else stored, num_classes, wiring)


def read_authors_checkpoint(
    path: Path, *, num_classes: int, fresh_heads: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Return the state dict out of one of the authors' checkpoints, under this network's keys.

    Nothing in the file is run: PyTorch's restricted unpickler refuses whatever is not on its list, and the few
    foreign names that these files carry are on it as an inert stand-in.

    Args:
        path: a pickle that holds a dict with a ``state_dict``, or a state dict alone, whose keys may begin with
            ``module.`` or ``_orig_mod.``.
        num_classes: how many classes the heads are to have.
        fresh_heads: None keeps the file's heads, which must then have ``num_classes``; a CPU generator replaces
            them, whatever their size, by new ones drawn from it. That is how a network that was trained to tell
            12,666 identities apart becomes the start of one that tells expressions apart.

    Raises:
        CheckpointError: if the file cannot be read or was refused, or a key, a shape, a type or the class count is
            not the expected one, or a value is not finite.
    """
    content = unpickle(path)
    state = _state_in(content)
    if state is None:
        found = _listed(list(content)) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path}: expected a dict with 'state_dict', or of tensors, found {found}")
    state = _without_prefixes(state, path)
    if fresh_heads is not None:
        state |= new_heads(num_classes, fresh_heads, width=width_of(state))
    _check(state, layout(num_classes, width=width_of(state)), path)
    return {key: tensor.detach() for key, tensor in state.items()}


def _state_in(content: object) -> Mapping[Any, Any] | None:
    """Return the state dict that a pickle holds: under ``state_dict``, or as all that it holds; None where none is."""
    if not isinstance(content, dict):
        return None
    if "state_dict" in content:
        state = content["state_dict"]
        return state if isinstance(state, dict) else None
    return content if content and all(isinstance(value, Tensor) for value in content.values()) else None


def _listed(keys: Sequence[object]) -> str:
    """Return the first keys of a dict and how many more there are; a checkpoint may have hundreds."""
    first = ", ".join(map(repr, keys[:MOST_NAMED])) or "an empty one"
    return first if len(keys) <= MOST_NAMED else f"{first} and {len(keys) - MOST_NAMED} more"


def _blank(num_classes: int, wiring: Wiring, width: int) -> MANet:
    """Return the network without memory behind its parameters; making it draws no random numbers."""
    with torch.device("meta"):
        return MANet(num_classes, wiring=wiring, width=width)


def _model(state: Mapping[str, Tensor], num_classes: int, wiring: Wiring) -> MANet:
    model = _blank(num_classes, wiring, width_of(state))
    model.load_state_dict(state, assign=True)
    return model.eval()


def _check(state: Mapping[str, object], expected: Mapping[str, Entry], path: Path) -> None:
    """Raise a CheckpointError about the first thing in which the state is not as laid out."""
    check_keys(state, expected, path)
    for key in heads_first(expected):
        _check_entry(key, state[key], expected[key], path)


def _check_entry(key: str, tensor: object, expected: Entry, path: Path) -> None:
    if not isinstance(tensor, Tensor):
        raise CheckpointError(f"{path}: {key}: expected a tensor, found {type(tensor).__name__}")
    if tensor.layout != torch.strided or tensor.is_meta:
        raise CheckpointError(f"{path}: {key}: expected numbers one after another, found a sparse or an empty tensor")
    check_entry(key, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), expected, path)
    # Minimum and maximum carry any NaN or infinity along, and need no second tensor of the same size.
    if tensor.is_floating_point() and not all(math.isfinite(bound) for bound in tensor.aminmax()):
        raise CheckpointError(f"{path}: {key}: expected finite values, found NaN or infinity")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as error:
        raise CheckpointError(f"{path}: expected a safetensors file, found something else ({error})") from error


class _Inert:
    """Stands in for foreign objects of a pickle: takes whatever it is given and keeps none of it."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


_FOREIGN = (
    # The authors' training script pickled its curve, an object of its own that holds NumPy arrays.
    "__main__.RecorderMeter",
    "numpy.ndarray",
    "numpy.dtype",
    # NumPy 2 renamed the module that rebuilds arrays and scalars.
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
)
"""Names that the authors' pickles use beyond PyTorch's own. None of them is imported: all mean ``_Inert``."""


def unpickle(path: Path) -> Any:
    """Return what a PyTorch pickle holds; nothing in it is run (see ``read_authors_checkpoint``).

    Raises:
        CheckpointError: if there is no such file, it is no pickle, or PyTorch's restricted unpickler refuses it.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a file, found none")
    refuse_html_page(path, "a PyTorch checkpoint")
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in _FOREIGN]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: {_refusal(error)}") from error
    # A file that is no pickle, or a broken one, can fail in any way at all.
    except Exception as error:
        raise CheckpointError(f"{path}: expected a PyTorch checkpoint, found something else") from error


def _refusal(error: pickle.UnpicklingError) -> str:
    """Return one line for PyTorch's paragraphs, which also advise to switch the protection off."""
    name = re.search(r"GLOBAL (\S+)", str(error))
    if name is None:
        return "expected a PyTorch checkpoint, found a pickle that was refused"
    return f"refused: expected tensors, found {name[1]}, which a checkpoint has no need of; nothing was run"


def _without_prefixes(state: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    """Return the state under the names it had before DataParallel and torch.compile wrapped the network."""
    bare: dict[str, Any] = {}
    for key, value in state.items():
        name = re.sub(r"^(module\.|_orig_mod\.)+", "", str(key))
        if name in bare:
            raise CheckpointError(f"{path}: expected {name!r} once, found it under several prefixes")
        bare[name] = value
    return bare


def new_heads(num_classes: int, generator: torch.Generator, *, width: int) -> dict[str, Tensor]:
    """Return new heads, drawn as PyTorch draws a linear layer: uniformly within 1 / sqrt(inputs).

    Args:
        num_classes: length of both heads.
        generator: draws them.
        width: of the network.
    """
    expected = layout(num_classes, width=width)
    bound = expected["fc_1.weight"].shape[1] ** -0.5
    return {
        key: nn.init.uniform_(torch.empty(entry.shape), -bound, bound, generator=generator)
        for key, entry in expected.items()
        if key.startswith(HEADS)
    }
