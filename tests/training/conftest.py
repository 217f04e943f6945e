"""A small FER+ tree, drawn in its owners' layout."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.datasets import ferplus

COLUMNS = ("Usage", "Image name", *ferplus.VOTE_COLUMNS)
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}


def draw_ferplus(root: Path, rows: list[tuple[str, str, list[int]]]) -> Path:
    """Write ``rows`` of (usage, name, ten votes) as a FER+ folder under ``root`` and return ``root``."""
    base = root / "ferplus"
    for folder in FOLDERS.values():
        (base / folder).mkdir(parents=True)
    with (base / "fer2013new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([usage, name, *votes] for usage, name, votes in rows)
    for usage, name, votes in rows:
        if name:
            # Each class has its own mean grey, so that a network has something to learn.
            noise = np.random.default_rng(len(name) + sum(votes)).integers(0, 30, (48, 48))
            grey = (noise + 25 * int(np.argmax(votes))).astype(np.uint8)
            Image.fromarray(grey).save(base / FOLDERS[usage] / name)
    return root


@pytest.fixture
def draw() -> Callable[[Path, list[tuple[str, str, list[int]]]], Path]:
    """The drawing function itself, for tests that bring their own rows."""
    return draw_ferplus


@pytest.fixture
def ferplus_tree(tmp_path: Path) -> Path:
    """Twelve training and six validation images of neutral, happiness and anger."""
    rows = []
    for usage, count in (("Training", 12), ("PublicTest", 6)):
        for i in range(count):
            votes = [0] * 10
            votes[(0, 1, 4)[i % 3]] = 8
            votes[3] = 2
            rows.append((usage, f"fer{usage[:2]}{i:05}.png", votes))
    return draw_ferplus(tmp_path / "data", rows)
