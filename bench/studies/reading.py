"""Reading: images a second that training reads, beside torchvision's ImageFolder, in one run.

    python bench/studies/reading.py --out bench/results/reading.json

Both read the same drawn JPEG files of 100 x 100 px, as RAF-DB's aligned ones are, by the authors' recipe: a random crop
of at least 0.08 of the area, 224 x 224 px, a flip, floats in 0..1. Each way runs in turns, several times. An epoch is
a third of RAF-DB's: in a short one there is mostly the wait for the first batches and for the last.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bench.machine import heading
from manet.vision.preprocess import Preprocessing
from training.data.augment import Batch, Draws, augment, draw
from training.data.datasets import load
from training.data.transforms import Draw, Reader, Samples
from training.recipe import Augmentation

IMAGES, EPOCH, BATCH, TURNS = 1024, 4096, 128, 3
"""Files, images drawn from them in an epoch, images in a batch, and epochs that are timed."""

CPU = torch.device("cpu")
SPEC = Preprocessing(input_size=224, colour="rgb")
RECIPE = Augmentation(crop_area=0.08, flip=0.5)


def write_set(folder: Path) -> None:
    """Write the images: smooth noise, which costs a decoder about what faces do."""
    random = np.random.default_rng(0)
    for index in range(IMAGES):
        coarse = Image.fromarray(random.integers(0, 256, (25, 25, 3), dtype=np.uint8))
        place = folder / "train" / ("happiness", "sadness")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        coarse.resize((100, 100), Image.Resampling.BICUBIC).save(place / f"{index:05}.jpg", quality=90)


def torchvision_images(folder: Path, workers: int) -> Callable[[], Iterator[torch.Tensor]]:
    """Return what reads an epoch as the authors do."""
    steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    data = ImageFolder(str(folder / "train"), transforms.Compose(steps))
    order = RandomSampler(data, replacement=True, num_samples=EPOCH)
    loader = DataLoader(data, BATCH, sampler=order, num_workers=workers, persistent_workers=workers > 0)
    return lambda: (images for images, _ in loader)


def our_images(folder: Path, workers: int) -> Callable[[], Iterator[torch.Tensor]]:
    """Return what reads an epoch as training does: crops by readers, the flip and the floats by batch."""
    samples = Samples(load("folders", folder, "train"), SPEC, crop_area=RECIPE.crop_area)
    reader = Reader(samples, device=CPU, workers=workers)

    def epoch() -> Iterator[torch.Tensor]:
        order = np.random.default_rng().integers(0, IMAGES, EPOCH)
        draws = [Draw(int(image), position) for position, image in enumerate(order)]
        batches = [draws[at : at + BATCH] for at in range(0, EPOCH, BATCH)]
        for step, (images, targets) in enumerate(reader.read(batches)):
            numbers = draw(step, len(images), slice(None), mixup=RECIPE.mixup)
            changed = augment(Batch(images, targets), RECIPE, Draws(numbers))
            yield changed.images.float().div_(255)

    return epoch


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        write_set(Path(place))
        for workers in (0, 1, 2):
            ways = {"torchvision": torchvision_images(Path(place), workers), "ours": our_images(Path(place), workers)}
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(TURNS + 1):
                for name, epoch in ways.items():
                    began = time.perf_counter()
                    read = sum(len(images) for images in epoch())
                    if turn:  # the first one starts the workers
                        rates[name].append(read / (time.perf_counter() - began))
            row = {name: round(statistics.median(found), 1) for name, found in rates.items()}
            ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates["torchvision"], strict=True))
            rows.append({"workers": workers, "images_a_second": row, "ours_over_torchvision": round(ratio, 3)})
            print(rows[-1], flush=True)
    arguments.out.write_text(json.dumps({**heading(), "image": "100 x 100 px JPEG", "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
