"""Augmentation: every change does what its name says, and no two draws of an image are the same sample."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from manet.vision.preprocess import Preprocessing
from training.data.augment import Batch, Draws, augment, draw
from training.data.datasets import ferplus
from training.data.datasets.expression_set import ExpressionSet
from training.data.transforms import Draw, Reader, Samples
from training.recipe import Augmentation

EVERYTHING = Augmentation(
    flip=0.5,
    rotation=15,
    shift=0.1,
    zoom=0.1,
    low_resolution=0.3,
    blur=0.3,
    gamma=0.4,
    contrast=0.3,
    brightness=0.3,
    jpeg=0.3,
    cover=0.3,
    random_erasing=0.3,
    mixup=0.4,
    cutmix=0.3,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """Sixteen copies of one face, uint8 (16, 1, 64, 64)."""
    face = Image.fromarray(skimage.data.astronaut()).crop((170, 40, 280, 150)).convert("L").resize((64, 64))
    return torch.from_numpy(np.array(face)).expand(16, 1, 64, 64)


def changed(images: Tensor, spec: Augmentation, seed: int = 1, part: slice = slice(None)) -> Batch:
    targets = torch.eye(8)[torch.arange(16) % 8]
    return augment(Batch(images[part], targets[part]), spec, Draws(draw(seed, 16, part, mixup=spec.mixup)))


def test_disabled_changes_leave_images_unchanged(faces: Tensor) -> None:
    images, targets = changed(faces, Augmentation())

    assert images.dtype == torch.uint8
    assert torch.equal(images, faces)
    assert torch.equal(targets, torch.eye(8)[torch.arange(16) % 8])


def test_a_flip_alone_keeps_pixels_exactly(faces: Tensor) -> None:
    images, _ = changed(faces, Augmentation(flip=0.5))

    flipped = (images == faces.flip(3)).flatten(1).all(dim=1)
    assert images.dtype == torch.uint8
    assert ((images == faces).flatten(1).all(dim=1) | flipped).all()
    assert 0 < flipped.sum() < 16


def test_as_many_samples_as_draws(faces: Tensor) -> None:
    steps = [changed(faces, replace_off(EVERYTHING, "mixup", "cutmix"), seed).images for seed in (1, 2)]

    samples = torch.cat(steps).flatten(1)
    assert len(torch.unique(samples, dim=0)) == 32


def replace_off(spec: Augmentation, *names: str) -> Augmentation:
    return spec.model_copy(update=dict.fromkeys(names, 0.0))


def test_a_seed_gives_the_same_samples_and_a_process_its_part_of_them(faces: Tensor) -> None:
    spec = replace_off(EVERYTHING, "mixup", "cutmix")  # these mix the images of one process
    whole = changed(faces, spec).images

    assert torch.equal(whole, changed(faces, spec).images)
    for rank in range(3):
        part = slice(rank, None, 3)
        assert torch.allclose(whole[part], changed(faces, spec, part=part).images, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in Augmentation.model_fields if name != "crop_area"])
def test_each_change_stays_in_range_and_keeps_targets_distributions(faces: Tensor, name: str) -> None:
    value = 15.0 if name == "rotation" else 0.3 if name in ("shift", "zoom", "contrast", "brightness") else 1.0
    varied = faces.float() * torch.linspace(0.5, 1, 16)[:, None, None, None]  # so that mixing shows

    images, targets = changed(varied, Augmentation(**{name: value}))

    assert images.shape == faces.shape
    assert images.min() >= -0.01
    assert images.max() <= 255.01
    assert not torch.equal(images, varied)
    assert torch.allclose(targets.sum(dim=1), torch.ones(16))


def test_detail_goes_by_low_resolution_blur_and_jpeg(faces: Tensor) -> None:
    def detail(images: Tensor) -> float:
        return float((images[..., 1:].float() - images[..., :-1].float()).abs().mean())

    for name in ("low_resolution", "blur"):
        assert detail(changed(faces, Augmentation(**{name: 1.0})).images) < 0.8 * detail(faces)
    compressed = changed(faces, Augmentation(jpeg=1.0)).images
    assert 1 < (compressed - faces.float()).abs().mean() < 20


def test_a_cover_hides_up_to_half_from_one_side_and_an_erased_rectangle_is_black(faces: Tensor) -> None:
    covered = changed(faces, Augmentation(cover=1.0)).images
    erased = changed(faces.clamp(min=1), Augmentation(random_erasing=1.0)).images

    share = (covered != faces).float().mean(dim=(1, 2, 3))
    assert (share > 0.25).all()
    assert (share < 0.55).all()
    black = (erased == 0).float().mean(dim=(1, 2, 3))
    assert (black > 0.005).all()
    assert (black < 0.25).all()


def test_cutmix_mixes_targets_by_area() -> None:
    images = torch.zeros(16, 1, 64, 64, dtype=torch.uint8)
    images[8:] = 255
    targets = torch.eye(2)[(torch.arange(16) >= 8).long()]

    mixed, shares = augment(Batch(images, targets), Augmentation(cutmix=1.0), Draws(draw(3, 16, slice(None), mixup=0)))

    assert torch.allclose((mixed == 255).float().mean(dim=(1, 2, 3)), shares[:, 1], atol=1e-6)


def test_a_random_crop_depends_on_seed_epoch_and_position_alone(ferplus_tree: Path) -> None:
    data = ferplus.load(ferplus_tree, "train", "majority")
    spec = Preprocessing(input_size=48, colour="rgb")

    def sample(seed: int, draw: Draw) -> Tensor:
        return Samples(data, spec, crop_area=0.08, seed=seed)[draw][0]

    assert torch.equal(sample(1, Draw(3, 5, 2)), sample(1, Draw(3, 5, 2)))
    crops = [sample(1, Draw(3, position, epoch)) for position in range(8) for epoch in range(2)]
    assert len(torch.unique(torch.stack(crops).flatten(1), dim=0)) == 16
    assert not torch.equal(sample(1, Draw(3, 5, 2)), sample(2, Draw(3, 5, 2)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("max_cached_bytes", [0, 2**20])
def test_cached_inputs_are_those_that_are_read(ferplus_tree: Path, workers: int, max_cached_bytes: int) -> None:
    data = ferplus.load(ferplus_tree, "train", "majority")
    samples = Samples(data, Preprocessing(input_size=32, colour="grey"))
    reader = Reader(samples, device=CPU, workers=workers, max_cached_bytes=max_cached_bytes)

    for batches in ([[Draw(3), Draw(1)], [Draw(5)]], [[Draw(1), Draw(1)]]):
        for batch, (images, targets) in zip(batches, reader.read(batches), strict=True):
            assert torch.equal(images, torch.stack([samples[draw][0] for draw in batch]))
            assert np.array_equal(targets.numpy(), data.targets[[draw.image for draw in batch]])


def test_workers_persist_over_epochs(ferplus_tree: Path) -> None:
    data = _answering_with_processes(ferplus.load(ferplus_tree, "train", "majority"))
    samples = Samples(data, Preprocessing(input_size=32, colour="rgb"), crop_area=0.5)
    reader = Reader(samples, device=CPU, workers=1)

    first, second = ({int(images[0, 0, 0, 0]) for images, _ in reader.read([[Draw(0)]] * 3)} for _ in range(2))

    assert len(first) == 1
    assert first == second


def _answering_with_processes(data: ExpressionSet) -> ExpressionSet:
    return replace(_Processes(**{name: getattr(data, name) for name in ExpressionSet.__slots__}))


class _Processes(ExpressionSet):
    """Images that are full of a number of the process that reads them."""

    __slots__ = ()

    def read(self, index: int) -> np.ndarray:
        import os  # noqa: PLC0415

        return np.full((48, 48, 3), os.getpid() % 251, np.uint8)
