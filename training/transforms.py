"""From a picture of an ExpressionSet to one training or evaluation sample."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from manet.preprocess import Pixels, Preprocessing, network_input
from training.datasets.expression_set import ExpressionSet
from training.recipe import Augmentation


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Samples (uint8 (3, S, S), target (classes,)) of one epoch, augmented where an augmentation is given.

    The randomness of a sample depends on the seed, the epoch and its index alone, so the same sample comes out in
    any order, in any worker, and after a resume.
    """

    def __init__(
        self,
        data: ExpressionSet,
        spec: Preprocessing,
        augment: Augmentation | None = None,
        *,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        self._data, self._spec, self._seed, self._epoch = data, spec, seed, epoch
        self._augment = None if augment is None else augmenter(augment)
        self._crop_area = None if augment is None else augment.crop_area

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = self._data.read(index)
        if self._augment is None:
            pixels = network_input(picture, self._spec)  # (S, S, 3)
            image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)  # (3, S, S)
        else:
            torch.default_generator.manual_seed(_seed(self._seed, self._epoch, index))
            pixels = network_input(_random_crop(picture, self._crop_area), self._spec)
            image = self._augment(Image.fromarray(pixels))
        return image, torch.from_numpy(self._data.targets[index])


def _random_crop(picture: Pixels, least_area: float | None) -> Pixels:
    """Return a random part of a picture (height, width, 3), before it loses detail by being resized."""
    if least_area is None:
        return picture
    shape = torch.empty((3, *picture.shape[:2]), device="meta")
    top, left, height, width = v2.RandomResizedCrop(1, scale=(least_area, 1)).make_params([shape]).values()
    return picture[top : top + height, left : left + width]


def augmenter(spec: Augmentation) -> v2.Transform:
    """Return the random changes of a recipe, from a Pillow image to uint8 (3, S, S).

    It draws from torch's global generator. The geometry runs in Pillow, which is ten times faster than tensors on
    pictures this small.
    """
    affine = v2.RandomAffine(
        degrees=spec.rotation,
        translate=(spec.shift, spec.shift),
        scale=(1 - spec.zoom, 1 + spec.zoom),
        interpolation=v2.InterpolationMode.BILINEAR,
    )
    steps: Iterable[v2.Transform] = (
        v2.RandomHorizontalFlip(spec.flip),
        affine,
        v2.ColorJitter(brightness=spec.brightness, contrast=spec.contrast),
        v2.PILToTensor(),
        v2.RandomErasing(spec.erase, scale=(0.02, 0.2)),
    )
    return v2.Compose(list(steps))


def epoch_order(labels: npt.NDArray[np.int64], seed: int, epoch: int, *, class_balance: float = 0.0) -> list[int]:
    """Return the order in which an epoch visits the pictures, as many as there are.

    Args:
        labels: the class of each picture, (N,).
        seed: of the recipe.
        epoch: counted from 0; each has its own order.
        class_balance: see ``Recipe``; 0 returns a permutation, more draws with repetition.
    """
    random = np.random.default_rng((seed, epoch))
    if class_balance == 0:
        order: list[int] = random.permutation(len(labels)).tolist()
        return order
    weight = np.bincount(labels)[labels] ** -class_balance  # (N,)
    drawn: list[int] = random.choice(len(labels), len(labels), p=weight / weight.sum()).tolist()
    return drawn


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
