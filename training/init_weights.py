"""Initial weights: pretrained weights that a run starts from instead of random ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from manet.errors import CheckpointError, UnknownWeightsError
from manet.nn.model import MANet
from manet.weights.checkpoint import load_model, new_heads, read_authors_checkpoint, unpickle
from manet.weights.header import read_header
from manet.weights.layout import width_of
from manet.weights.registry import locate, names, resolve
from training.recipe import Recipe

PRE_EXTRACTOR = ("conv1.", "bn1.", "layer1.", "layer2.")
"""The layers before the two branches, which are a ResNet-18's first ones (paper, section III-A)."""


HEAD_KEY = "fc_1.bias"
"""A key that distinguishes this network from a backbone; its length is the number of classes."""


def initial_state(source: str, recipe: Recipe, classes: Sequence[str]) -> Mapping[str, Tensor]:
    """Return the parameters that ``source`` names, under all the keys of the recipe's network.

    Args:
        source: an id of known weights; a file of this project's; one of the authors' pickles; or a backbone, a
            ResNet-18 as torchvision or timm saves it, whose first layers become the pre-extractor. Heads for
            other classes, and layers that a backbone lacks, are drawn from the recipe's seed.
        recipe: what will be trained.
        classes: of the data set, in order.

    Raises:
        UnknownWeightsError: if it is neither a known id nor a path.
        CheckpointError: if there is no such file, it cannot be read, or it contains another wiring, another width or
            another network.
    """
    path = _locate(source)
    state = _read(path, recipe, classes)
    if (width := width_of(state)) != recipe.width:
        raise CheckpointError(f"{path}: expected a network of width {recipe.width}, found {width}")
    return state


def _read(path: Path, recipe: Recipe, classes: Sequence[str]) -> Mapping[str, Tensor]:
    """Return the parameters in a file, with new heads where they are for other classes."""
    fresh = torch.Generator().manual_seed(recipe.seed)
    if path.suffix != ".safetensors":
        content = unpickle(path)
        if isinstance(content, dict) and any(str(key).endswith(("state_dict", HEAD_KEY)) for key in content):
            return read_authors_checkpoint(path, num_classes=len(classes), fresh_heads=fresh)
        return _with_backbone(content, path, recipe, classes)
    header = read_header(path)
    with safe_open(path, framework="pt") as file:
        head = file.get_slice(HEAD_KEY).get_shape() if HEAD_KEY in file.keys() else None  # noqa: SIM118
    if head is None:
        return _with_backbone(load_file(path), path, recipe, classes)
    state = load_model(path, num_classes=head[0], wiring=recipe.wiring).state_dict()
    if header is None or header.classes != tuple(classes):
        state |= new_heads(len(classes), fresh, width=width_of(state))
    return state


def _locate(source: str) -> Path:
    """Return the file that an id or a path names."""
    path = Path(source)
    if path.is_file():
        return path
    if source in names():
        return locate(resolve(source))
    if path.is_dir():
        raise CheckpointError(f"{path}: expected a file, found a folder; of a run give {path / 'best.safetensors'}")
    if path.suffix or len(path.parts) > 1:
        raise CheckpointError(f"{path}: expected a file, found none")
    raise UnknownWeightsError(f"unknown weights {source!r}, and no such file; known are {', '.join(names())}")


def _with_backbone(content: object, path: Path, recipe: Recipe, classes: Sequence[str]) -> Mapping[str, Tensor]:
    """Return random parameters whose pre-extractor is the backbone's."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        state = MANet(len(classes), wiring=recipe.wiring, width=recipe.width).state_dict()
    found = content if isinstance(content, dict) else {}
    for key in (key for key in state if key.startswith(PRE_EXTRACTOR)):
        given = found.get(key)
        if not isinstance(given, Tensor) or given.shape != state[key].shape:
            shape = tuple(given.shape) if isinstance(given, Tensor) else "none"
            raise CheckpointError(f"{path}: not a ResNet-18: {key}: expected {tuple(state[key].shape)}, found {shape}")
        state[key] = given
    return state
