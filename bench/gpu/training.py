"""Training: steps a second of two recipes on drawn images."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench.gpu.facts import wait
from bench.gpu.setting import Row, Setting
from manet.labels import CLASS_ORDERS
from training import recipe as recipes
from training.cuda_graphs import WARMUP_STEPS
from training.data.datasets.expression_set import ExpressionSet
from training.distributed import World, default_workers
from training.ops import set_arithmetic
from training.trainer import Trainer

_UNTIMED = WARMUP_STEPS + 2
"""Steps before the timer starts; in one of them the graph is captured."""

_SIDE = 48
"""Of the drawn images, px."""


def train(setting: Setting) -> Iterator[Row]:
    """Yield steps a second of each recipe, in an epoch that reads its images and in one that may have them cached."""
    device, steps = torch.device(setting.device), setting.scale.steps
    set_arithmetic(device)
    precision = "bf16" if setting.device == "cuda" else "float32"
    workers = default_workers(device, os.environ)
    for name, changes in setting.scale.training.items():
        recipe = recipes.load(name, (*changes, f'precision="{precision}"'))
        drawn = images(name, steps * recipe.batch_size)
        trainer = Trainer(recipe, drawn, drawn.first(recipe.batch_size), world=World(device), workers=workers)
        untimed = min(_UNTIMED, steps - 1)
        for epoch in ("read", "again"):
            losses, began = [], 0.0
            for loss in trainer.steps():
                losses.append(loss)
                if len(losses) == untimed:
                    wait(device)
                    began = time.perf_counter()
            wait(device)
            rate = (steps - untimed) / (time.perf_counter() - began)
            trainer.end_epoch()
            yield {
                "what": "training",
                "recipe": name,
                "precision": precision,
                "side": recipe.input_size,
                "batch": recipe.batch_size,
                "images": epoch,
                "steps_per_second": round(rate, 2),
                "images_per_second": round(rate * recipe.batch_size, 1),
                "losses": [round(float(loss), 4) for loss in (losses[0], losses[-1])],
                "most_memory_mib": torch.cuda.max_memory_allocated() >> 20 if setting.device == "cuda" else None,
                "ok": bool(torch.stack(losses).isfinite().all()),
            }


def images(dataset: str, count: int) -> ExpressionSet:
    """Return grey images of noise with random classes of a data set, always the same."""
    random, classes = np.random.default_rng(0), CLASS_ORDERS[dataset]
    targets = np.eye(len(classes), dtype=np.float32)[random.integers(0, len(classes), count)]
    pixels = random.integers(0, 256, (count, _SIDE, _SIDE), dtype=np.uint8)
    paths = tuple(Path(str(number)) for number in range(count))
    return ExpressionSet(dataset, "train", "drawn", classes, paths, targets, pixels=pixels)
