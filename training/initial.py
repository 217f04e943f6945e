"""Initial weights: what a run begins from when not from random numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from manet.checkpoint import load_model, new_heads, read_authors_checkpoint, unpickle
from manet.errors import CheckpointError
from manet.header import read_header
from manet.model import MANet
from manet.weights import locate, resolve
from training.recipe import Recipe

PRE_EXTRACTOR = ("conv1.", "bn1.", "layer1.", "layer2.")
"""The layers before the two branches, which are a ResNet-18's first ones (paper, section III-A)."""


def start(source: str, recipe: Recipe, classes: Sequence[str]) -> Mapping[str, Tensor]:
    """Return the parameters that ``source`` names, under all the keys of the recipe's network.

    Args:
        source: an id of known weights; a file of this project's; one of the authors' pickles; or a backbone, a
            ResNet-18 as torchvision or timm saves it, whose first layers become the pre-extractor. Heads that tell
            other classes apart, and what a backbone has not, are drawn from the recipe's seed.
        recipe: what is going to be trained.
        classes: of the data set, in order.

    Raises:
        UnknownWeightsError: if it is neither an id nor a file.
        CheckpointError: if the file cannot be read, or holds another wiring or another network.
    """
    path = Path(source)
    if not path.is_file():
        path = locate(resolve(source))
    fresh = torch.Generator().manual_seed(recipe.seed)
    if path.suffix != ".safetensors":
        content = unpickle(path)
        if isinstance(content, dict) and "state_dict" in content:
            return read_authors_checkpoint(path, num_classes=len(classes), fresh_heads=fresh)
        return _on_backbone(content, path, recipe, classes)
    with safe_open(path, framework="pt") as file:
        head = file.get_slice("fc_1.bias").get_shape() if "fc_1.bias" in file.keys() else None  # noqa: SIM118
    if head is None:
        return _on_backbone(load_file(path), path, recipe, classes)
    header = read_header(path)
    state = load_model(path, num_classes=head[0], wiring=recipe.wiring).state_dict()
    if header is None or header.classes != tuple(classes):
        state |= new_heads(len(classes), fresh)
    return state


def _on_backbone(content: object, path: Path, recipe: Recipe, classes: Sequence[str]) -> Mapping[str, Tensor]:
    """Return random parameters whose pre-extractor is the backbone's."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        state = MANet(len(classes), wiring=recipe.wiring).state_dict()
    found = content if isinstance(content, dict) else {}
    for key in (key for key in state if key.startswith(PRE_EXTRACTOR)):
        given = found.get(key)
        if not isinstance(given, Tensor) or given.shape != state[key].shape:
            shape = tuple(given.shape) if isinstance(given, Tensor) else "none"
            raise CheckpointError(f"{path}: no ResNet-18: {key}: expected {tuple(state[key].shape)}, found {shape}")
        state[key] = given
    return state
