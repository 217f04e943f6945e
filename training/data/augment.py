"""Augmentation: random changes to a batch of training images, on the training device.

Every random number of a step comes from one generator on the CPU, seeded by the recipe's seed, the epoch and the step.
So a resumed run sees the same samples, on any device, and two draws of one image in an epoch differ.
"""

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from training.recipe import Augmentation

_JPEG_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation of luma at quality 50 (ITU-T T.81, table K.1)."""

_BLOCK = 8
"""Side of a JPEG block, px."""

REDUCTIONS = (2, 3, 4)
"""Factors by which ``low_resolution`` makes an image smaller before it is enlarged again."""

ERASED_AREA = (0.02, 0.2)
"""Smallest and largest share of an image that ``random_erasing`` overwrites."""

BLUR = (0.01, 0.03)
"""Smallest and largest deviation of ``blur``'s Gaussian, as a share of the side; one for all images of a step."""

QUALITY = (10, 60)
"""Smallest and largest JPEG quality of ``jpeg``."""

COVERED = (0.3, 0.5)
"""Smallest and largest share of an image that ``cover`` occludes, from one of its four sides."""


class Batch(NamedTuple):
    """Images of a step with their targets.

    Attributes:
        images: (N, C, S, S), values 0..255; uint8, or float32 after a change of pixels.
        targets: (N, classes), each row a distribution.
    """

    images: Tensor
    targets: Tensor


MAX_DRAWS = 48
"""Largest number of random numbers for one image."""


def draw(seed: int, size: int, part: slice, *, mixup: float) -> Tensor:
    """Return the random numbers of one step as one tensor, so that they are copied to a device at once.

    Args:
        seed: of the step.
        size: images in the whole step.
        part: this process's shard of them.
        mixup: see ``training.recipe.Augmentation``.

    Returns:
        (MOST_DRAWS + 1, 1 + n) on the CPU: the first column belongs to the step, the others to this process's images;
        the last row begins with the share of mixup.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand((MAX_DRAWS + 1, 1 + size), generator=generator, dtype=torch.float32)
    a, b = torch._standard_gamma(torch.full((2,), mixup or 1.0), generator=generator).tolist()
    drawn[-1, 0] = a / (a + b) if a + b > 0 else 0.5  # of two tiny numbers both can be zero
    return torch.cat((drawn[:, :1], drawn[:, 1:][:, part]), dim=1)


class Draws:
    """The random numbers of one step, on the device of its images; nothing here synchronises with the device.

    Args:
        drawn: what ``draw`` returned.
    """

    def __init__(self, drawn: Tensor) -> None:
        self._rows = iter(drawn[:-1])
        self.mixup_share = drawn[-1, 0]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return a number for each image, (N,)."""
        row: Tensor = next(self._rows)
        return low + (high - low) * row[1:]

    def chance(self, probability: float) -> Tensor:
        """Return for each image whether it is changed, bool (N, 1, 1, 1)."""
        return (self.uniform() < probability)[:, None, None, None]

    def one(self, low: float, high: float) -> Tensor:
        """Return one number for the whole step, a scalar."""
        row: Tensor = next(self._rows)
        return low + (high - low) * row[0]


def augment(batch: Batch, spec: Augmentation, draws: Draws) -> Batch:
    """Return a batch with the recipe's random changes; disabled ones cost nothing and draw no random numbers."""
    images, targets = batch
    if spec.flip:
        images = torch.where(draws.chance(spec.flip), images.flip(3), images)
    if spec.rotation or spec.shift or spec.zoom:
        images = _moved(images.float(), spec, draws)
    if spec.low_resolution:
        images = _reduced(images.float(), spec.low_resolution, draws)
    if spec.blur:
        images = torch.where(draws.chance(spec.blur), _blurred(images.float(), draws.one(*BLUR)), images.float())
    if spec.brightness or spec.contrast or spec.gamma:
        images = _relit(images.float(), spec, draws)
    if spec.jpeg:
        images = _compressed(images.float(), spec.jpeg, draws)
    if spec.cover:
        images = _covered(images, spec.cover, draws)
    if spec.random_erasing:
        images = _erased(images, spec.random_erasing, draws)
    if spec.mixup:
        share = draws.mixup_share
        images = share * images.float() + (1 - share) * images.float().flip(0)
        targets = share * targets + (1 - share) * targets.flip(0)
    if spec.cutmix:
        images, targets = _cut_and_mixed(images, targets, spec.cutmix, draws)
    return Batch(images, targets)


def _moved(images: Tensor, spec: Augmentation, draws: Draws) -> Tensor:
    """Rotate, shift and zoom by one bilinear resampling, padded with black."""
    angle = draws.uniform(-spec.rotation, spec.rotation) * (math.pi / 180)
    scale = 1 / draws.uniform(1 - spec.zoom, 1 + spec.zoom)
    right, down = (draws.uniform(-2 * spec.shift, 2 * spec.shift) for _ in range(2))
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack((torch.stack((cos, sin, right), 1), torch.stack((-sin, cos, down), 1)), 1)  # (N, 2, 3)
    grid = affine_grid(theta, list(images.shape), align_corners=False)  # (N, S, S, 2)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _reduced(images: Tensor, probability: float, draws: Draws) -> Tensor:
    apply, which = draws.chance(probability), draws.uniform(0, len(REDUCTIONS))
    side = images.shape[-1]
    for index, factor in enumerate(REDUCTIONS):
        small = interpolate(images, size=(side // factor, side // factor), mode="bilinear", antialias=True)
        coarse = interpolate(small, size=(side, side), mode="bilinear")
        chosen = (which.floor() == index)[:, None, None, None] & apply
        images = torch.where(chosen, coarse, images)
    return images


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur by a Gaussian whose deviation, a scalar of at most ``BLUR[1]``, is given as a share of the side."""
    side, channels = images.shape[-1], images.shape[1]
    deviation = sigma * side
    radius = max(1, math.ceil(2 * BLUR[1] * side))
    x = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (x / deviation) ** 2)
    kernel = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    for weight, pad in ((kernel, (0, radius)), (kernel.transpose(2, 3), (radius, 0))):
        padded = torch.nn.functional.pad(images, (pad[1], pad[1], pad[0], pad[0]), mode="replicate")
        images = torch.nn.functional.conv2d(padded, weight, groups=channels)
    return images


def _relit(images: Tensor, spec: Augmentation, draws: Draws) -> Tensor:
    if spec.gamma:
        power = torch.exp(draws.uniform(-1, 1) * math.log1p(spec.gamma))[:, None, None, None]
        images = 255 * (images / 255).clamp(0, 1) ** power
    if spec.contrast:
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = mean + (images - mean) * draws.uniform(1 - spec.contrast, 1 + spec.contrast)[:, None, None, None]
    if spec.brightness:
        images = images * draws.uniform(1 - spec.brightness, 1 + spec.brightness)[:, None, None, None]
    return images.clamp(0, 255)


def _compressed(images: Tensor, probability: float, draws: Draws) -> Tensor:
    """Quantise blocks as JPEG does; colour channels are treated as luma."""
    apply, quality = draws.chance(probability), draws.uniform(*QUALITY)
    n, c, s, _ = images.shape
    if s % _BLOCK:
        raise ValueError(f"jpeg changes images whose side is a multiple of {_BLOCK} px, not {s}")
    # The scale of the Independent JPEG Group: 1 at a quality of 50.
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None, None, None, None]  # noqa: PLR2004
    dct, luma = _jpeg_tables(images.device)
    steps = (luma[:, None, :] * scale).clamp(min=1).round()
    blocks = images.view(n, c, s // _BLOCK, _BLOCK, s // _BLOCK, _BLOCK) - 128
    waves = torch.einsum("ui,ncaibj,vj->ncaubv", dct, blocks, dct)
    waves = (waves / steps).round() * steps
    found = torch.einsum("ui,ncaubv,vj->ncaibj", dct, waves, dct).reshape(n, c, s, s) + 128
    return torch.where(apply, found.clamp(0, 255), images)


@cache
def _jpeg_tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the orthonormal cosine transform of eight numbers, a row for each frequency, and the steps of luma."""
    k = torch.arange(_BLOCK, dtype=torch.float32)
    waves = torch.cos(math.pi / _BLOCK * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / _BLOCK)
    dct = torch.cat((waves[:1] / math.sqrt(2), waves[1:]))
    return dct.to(device), torch.tensor(_JPEG_LUMA, dtype=torch.float32).to(device)  # (8, 8) each


def _covered(images: Tensor, probability: float, draws: Draws) -> Tensor:
    """Cover a part from the left, the right, above or below with one grey."""
    apply, side, share = draws.chance(probability), draws.uniform(0, 4).floor(), draws.uniform(*COVERED)
    zero, one = torch.zeros_like(share), torch.ones_like(share)
    left = torch.where(side == 1, 1 - share, zero)
    right = torch.where(side == 0, share, one)
    top = torch.where(side == 3, 1 - share, zero)  # noqa: PLR2004 - the fourth side
    bottom = torch.where(side == 2, share, one)  # noqa: PLR2004
    inside = _rectangle(images.shape[-1], left, top, right, bottom) & apply
    grey = draws.uniform(0, 255)[:, None, None, None].to(images.dtype)
    return torch.where(inside, grey, images)


def _erased(images: Tensor, probability: float, draws: Draws) -> Tensor:
    """Overwrite a random rectangle with zeros, its sides at 1:3 to 3:1."""
    inside, _ = _random_rectangle(images.shape[-1], draws.uniform(*ERASED_AREA), draws)
    return torch.where(inside & draws.chance(probability), torch.zeros_like(images), images)


def _cut_and_mixed(images: Tensor, targets: Tensor, probability: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """Put a part of another image of the batch into each; the targets are mixed by area (CutMix, ICCV 2019)."""
    inside, area = _random_rectangle(images.shape[-1], draws.uniform(0.05, 0.5), draws)
    apply = draws.chance(probability)
    share = (area * apply.flatten())[:, None]
    return torch.where(inside & apply, images.flip(0), images), (1 - share) * targets + share * targets.flip(0)


def _random_rectangle(side: int, area: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return a rectangle for each image as ``_rectangle`` does, and the share of the image that it holds, (N,)."""
    stretch = torch.exp(draws.uniform(-1, 1) * math.log(3) / 2)
    width, height = ((area.sqrt() * factor).clamp(max=1) for factor in (stretch, 1 / stretch))
    left, top = draws.uniform() * (1 - width), draws.uniform() * (1 - height)
    inside = _rectangle(side, left, top, left + width, top + height)
    return inside, inside.float().mean(dim=(1, 2, 3))


def _rectangle(side: int, left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    """Return a mask of a rectangle given in shares of the side, bool (N, 1, S, S)."""
    place = (torch.arange(side, device=left.device, dtype=torch.float32) + 0.5) / side
    columns = (place >= left[:, None]) & (place < right[:, None])  # (N, S)
    lines = (place >= top[:, None]) & (place < bottom[:, None])
    return lines[:, None, :, None] & columns[:, None, None, :]
