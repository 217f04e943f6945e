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
    """Yield steps a second of each recipe, in a first epoch and in a second one, whose images may be cached."""
    device = torch.device(setting.device)
    set_arithmetic(device)
    precision = "bf16" if setting.device == "cuda" else "float32"
    workers = default_workers(device, os.environ)
    for name, changes in setting.scale.training.items():
        recipe = recipes.load(name, (*changes, f'precision="{precision}"'))
        drawn = images(name, setting.scale.steps * recipe.batch_size)
        trainer = Trainer(recipe, drawn, drawn.first(recipe.batch_size), world=World(device), workers=workers)
        fixed = {"recipe": name, "precision": precision, "side": recipe.input_size, "batch": recipe.batch_size}
        for epoch in (1, 2):
            found = _epoch(trainer, device)
            memory = torch.cuda.max_memory_allocated() >> 20 if setting.device == "cuda" else None
            yield {"what": "training", **fixed, "epoch": epoch, **found, "most_memory_mib": memory}


def _epoch(trainer: Trainer, device: torch.device) -> Row:
    """Train an epoch; the reading of images before its first step, and a few steps, are not in the rate."""
    losses: list[torch.Tensor] = []
    started = began = time.perf_counter()
    timed = max(1, trainer.steps_per_epoch - _UNTIMED)
    for loss in trainer.steps():
        losses.append(loss)
        if len(losses) == 1:
            first = float(loss)
            first_seconds = time.perf_counter() - started
        if len(losses) == trainer.steps_per_epoch - timed:
            wait(device)
            began = time.perf_counter()
    wait(device)
    rate = timed / (time.perf_counter() - began)
    trainer.end_epoch()
    return {
        "first_step_seconds": round(first_seconds, 2),
        "steps_per_second": round(rate, 2),
        "images_per_second": round(rate * trainer.recipe.batch_size, 1),
        "losses": [round(first, 4), round(float(losses[-1]), 4)],
        "ok": bool(torch.stack(losses).isfinite().all()),
    }


def images(dataset: str, count: int) -> ExpressionSet:
    """Return grey images of noise with random classes of a data set, always the same."""
    random, classes = np.random.default_rng(0), CLASS_ORDERS[dataset]
    targets = np.eye(len(classes), dtype=np.float32)[random.integers(0, len(classes), count)]
    pixels = random.integers(0, 256, (count, _SIDE, _SIDE), dtype=np.uint8)
    paths = tuple(Path(str(number)) for number in range(count))
    return ExpressionSet(dataset, "train", "drawn", classes, paths, targets, pixels=pixels)
