"""Small data sets in their owners' layouts, and a face embedding of random numbers."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.data.datasets import ferplus
from training.data.face_embedding import ARRAYS, BLOCKS, DIMENSIONS, MANIFEST

VOTES = ("Usage", "Image name", *ferplus.VOTE_COLUMNS)
AFFECTNET_COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}


def draw_ferplus(root: Path, rows: list[tuple[str, str, list[int]]]) -> Path:
    """Write ``rows`` of (usage, name, ten votes) as a FER+ folder under ``root`` and return ``root``."""
    base = root / "ferplus"
    for folder in FOLDERS.values():
        (base / folder).mkdir(parents=True)
    with (base / "fer2013new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(VOTES)
        writer.writerows([usage, name, *votes] for usage, name, votes in rows)
    for usage, name, votes in rows:
        if name:
            # Each class has its own mean grey, so that a network has something to learn.
            noise = np.random.default_rng(len(name) + sum(votes)).integers(0, 30, (48, 48))
            grey = (noise + 25 * int(np.argmax(votes))).astype(np.uint8)
            Image.fromarray(grey).save(base / FOLDERS[usage] / name)
    return root


def draw_ferplus_tree(root: Path) -> Path:
    """Write such a tree under ``root`` and return its folder."""
    rows = []
    for usage, count in (("Training", 12), ("PublicTest", 6)):
        for i in range(count):
            votes = [0] * 10
            votes[(0, 1, 4)[i % 3]] = 8
            votes[3] = 2
            rows.append((usage, f"fer{usage[:2]}{i:05}.png", votes))
    return draw_ferplus(root / "data", rows)


def _layers() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the network's arrays by name, in face-api's order of axes."""
    found: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, side: int, channels: int, wanted: int) -> None:
        found[f"{name}/conv/filters"] = (side, side, channels, wanted)
        for array in ("conv/bias", "scale/weights", "scale/biases"):
            found[f"{name}/{array}"] = (wanted,)

    convolution("conv32_down", 7, 3, 32)
    width = 32
    for name in BLOCKS:
        wide = int(name.removeprefix("conv").partition("_")[0])
        convolution(f"{name}/conv1", 3, width, wide)
        convolution(f"{name}/conv2", 3, wide, wide)
        width = wide
    found["fc"] = (width, DIMENSIONS)
    return found


def _entry(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return an array's line of the manifest: filters as bytes, all else as floats."""
    stored = {"dtype": "uint8", "scale": 0.001, "min": -0.128}
    return {"name": name, "shape": shape, "dtype": "float32"} | ({"quantization": stored} if "filters" in name else {})


def draw_face_api(folder: Path) -> Path:
    """Write a face embedding of random numbers as face-api does, and return its folder."""
    random, parts = np.random.default_rng(0), []
    for name, shape in _layers().items():
        if "filters" in name:
            parts.append(random.integers(0, 256, shape).astype(np.uint8).tobytes())
        else:
            ones = np.ones(shape, np.float32) if name.endswith("scale/weights") else random.normal(0, 0.1, shape)
            parts.append(ones.astype(np.float32).tobytes())
    folder.mkdir(exist_ok=True)
    (folder / ARRAYS).write_bytes(b"".join(parts))
    listed = [{"weights": [_entry(*layer) for layer in _layers().items()]}]
    (folder / MANIFEST).write_text(json.dumps(listed))
    return folder


def draw_image(path: Path, grey: int = 100, size: tuple[int, int] = (20, 24)) -> None:
    """Write an image of one grey, 0..255, of (width, height) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(path)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def draw_fer2013(path: Path) -> None:
    """Write a fer2013.csv of two training images and one for validation into a folder."""
    pixels = [" ".join([str(20 * i)] * 48 * 48) for i in range(3)]
    rows = [[3, pixels[0], "Training"], [6, pixels[1], "PublicTest"], [0, pixels[2], "Training"]]
    write_table(path / "fer2013.csv", ("emotion", "pixels", "Usage"), rows)
