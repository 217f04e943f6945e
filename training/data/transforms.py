"""Transforms: from images of an ExpressionSet to network inputs, in worker processes or cached for all epochs."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from manet.vision.preprocess import Pixels, Preprocessing, network_input
from training.data.datasets.expression_set import ExpressionSet

if TYPE_CHECKING:
    from torchvision.transforms.v2 import RandomResizedCrop


class Draw(NamedTuple):
    """One image of an epoch.

    Attributes:
        image: its index in the set.
        position: its position in the epoch.
        epoch: counted from 0.
    """

    image: int
    position: int = 0
    epoch: int = 0


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Samples (uint8 (C, S, S), target (classes,)); C is 1 for grey inputs, else 3.

    The random crop of a sample depends only on the seed, the epoch and the position in it, so the sample is the same in
    any worker and after a resume, and an image that is drawn twice in an epoch gets two crops.

    Args:
        data: the images.
        spec: the weights' preprocessing.
        crop_area: see ``training.recipe.Augmentation``.
        seed: of the recipe.
    """

    def __init__(
        self, data: ExpressionSet, spec: Preprocessing, *, crop_area: float | None = None, seed: int = 0
    ) -> None:
        self.data, self.spec = data, spec
        self._crop = None if crop_area is None else _random_resized_crop(crop_area)
        self._seed = seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        image = self.data.read(draw.image)
        if self._crop is not None:
            torch.default_generator.manual_seed(seed_of(self._seed, draw.epoch, draw.position))
            image = _random_crop(image, self._crop)
        pixels = network_input(image, self.spec)  # (S, S, 3)
        tensor = torch.from_numpy(pixels[:, :, : self.channels].copy()).permute(2, 0, 1)  # (C, S, S)
        return tensor, torch.from_numpy(self.data.targets[draw.image])

    @property
    def channels(self) -> int:
        """C of the inputs."""
        return 1 if self.spec.colour == "grey" else 3

    @property
    def deterministic(self) -> bool:
        """Whether an image always gives the same input."""
        return self._crop is None


def _random_resized_crop(area: float) -> "RandomResizedCrop":
    # Not above: torchvision loads PyTorch's compiler, seconds that only training with random crops has to spend.
    from torchvision.transforms.v2 import RandomResizedCrop  # noqa: PLC0415

    return RandomResizedCrop(1, scale=(area, 1))


def _random_crop(image: Pixels, crop: "RandomResizedCrop") -> Pixels:
    """Return a random part of an image (height, width, 3), before it is resized."""
    shape = torch.empty((3, *image.shape[:2]), device="meta")
    top, left, height, width = crop.make_params([shape]).values()
    return image[top : top + height, left : left + width]


class _Batches:
    """The draws of each batch; persistent workers take the next epoch's from the same object."""

    def __init__(self) -> None:
        self.draws: Sequence[Sequence[Draw]] = ()

    def __len__(self) -> int:
        return len(self.draws)

    def __iter__(self) -> Iterator[Sequence[Draw]]:
        return iter(self.draws)


MAX_CACHED_BYTES = 2**30
"""Largest set of inputs that is cached in memory; a larger one is read again in each epoch."""

READ_BATCH = 256
"""Batch size for reading where no network is involved."""


def in_order(count: int, batch_size: int = READ_BATCH) -> list[list[Draw]]:
    """Return batches that visit every image once, in the set's order."""
    whole = [Draw(image) for image in range(count)]
    return [whole[at : at + batch_size] for at in range(0, count, batch_size)]


class Reader:
    """Reads batches of samples: from a cache where the inputs are deterministic and fit, else in worker processes.

    Args:
        samples: the samples to read.
        device: of the cache.
        workers: worker processes; 0 reads between steps.
        most_kept: see ``MAX_CACHED_BYTES``.
    """

    def __init__(
        self, samples: Samples, *, device: torch.device, workers: int = 0, max_cached_bytes: int = MAX_CACHED_BYTES
    ) -> None:
        self._samples, self._device = samples, device
        self._batches = _Batches()
        self._loader = DataLoader(
            samples,
            batch_sampler=self._batches,  # type: ignore[arg-type]
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        size = len(samples) * samples.spec.input_size**2 * samples.channels
        self._cacheable = samples.deterministic and size <= max_cached_bytes
        self._cache: tuple[Tensor, Tensor] | None = None

    def read(self, batches: Sequence[Sequence[Draw]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs, uint8 (N, C, S, S), and targets, (N, classes), of each batch."""
        if not self._cacheable:
            self._batches.draws = batches
            yield from self._loader
            return
        if self._cache is None:
            self._batches.draws = in_order(len(self._samples))
            parts = list(self._loader)
            self._cache = (
                torch.cat([inputs for inputs, _ in parts]).to(self._device),
                torch.cat([targets for _, targets in parts]).to(self._device),
            )
            self._loader = DataLoader(self._samples)  # stops the workers
        images, targets = self._cache
        for batch in batches:
            at = torch.tensor([draw.image for draw in batch]).to(self._device, non_blocking=True)
            yield images[at], targets[at]


def epoch_order(labels: npt.NDArray[np.int64], seed: int, epoch: int, *, class_balance: float = 0.0) -> list[int]:
    """Return the order in which an epoch visits the images, as many as there are.

    Args:
        labels: the class of each image, (N,).
        seed: of the recipe.
        epoch: counted from 0; each has its own order.
        class_balance: see ``Recipe``; 0 returns a permutation, more samples with repetition.
    """
    random = np.random.default_rng((seed, epoch))
    if class_balance == 0:
        order: list[int] = random.permutation(len(labels)).tolist()
        return order
    weight = np.bincount(labels)[labels] ** -class_balance  # (N,)
    drawn: list[int] = random.choice(len(labels), len(labels), p=weight / weight.sum()).tolist()
    return drawn


def seed_of(*parts: int) -> int:
    """Return one seed, 0..2**63 - 1, derived from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
