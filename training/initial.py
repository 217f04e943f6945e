"""Initial weights: what a run begins from when not from random numbers."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from manet.checkpoint import load_model, read_authors_checkpoint
from manet.labels import CLASS_ORDERS
from manet.weights import locate, resolve
from training.recipe import Recipe


def start(source: str, recipe: Recipe) -> Mapping[str, Tensor]:
    """Return the parameters that ``source`` names, under all the keys of the recipe's network.

    Args:
        source: an id of known weights, a ``.safetensors`` file of this project, or one of the authors' pickles, whose
            heads are replaced by new ones drawn from the recipe's seed.
        recipe: what is going to be trained.

    Raises:
        UnknownWeightsError: if it is neither an id nor a file.
        CheckpointError: if the file cannot be read, or holds another wiring or other classes.
    """
    classes = len(CLASS_ORDERS[recipe.dataset])
    path = Path(source)
    if path.is_file() and path.suffix != ".safetensors":
        fresh = torch.Generator().manual_seed(recipe.seed)
        return read_authors_checkpoint(path, num_classes=classes, fresh_heads=fresh)
    path = path if path.is_file() else locate(resolve(source))
    return load_model(path, num_classes=classes, wiring=recipe.wiring).state_dict()
