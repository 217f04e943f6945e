"""Canvas: what the detector finds in drawn photographs, what the network says of it, and what finding it costs.

    python -m bench.studies.canvas --data DIR --out bench/results/canvas.json

Faces of FER+ Valid with a majority of votes: four in each photograph of 1280 x 853 px, each 1/8 to 1/3 of its longest
side, some of them cut by its edge; and each alone, filling an image. A face that is not found counts as answered wrong.
The first 2,000 faces are also drawn in photographs of three times that size, which are read whole, and reduced.
Each run is added to the file, so that commits stand side by side.
"""

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.machine import heading
from manet.recognizer import FaceInput, Recognizer
from manet.vision.images import ImageLimits, ScaledImage, read_image, read_scaled
from manet.vision.preprocess import Pixels
from training.data.datasets import ferplus

SIZE, SIDES = (1280, 853), (160, 427)
TIMES, LARGE_FACES = 3, 2000
ALONE = (224, 640)
_CUT = 0.15
"""The most of a face's side that lies beyond the photograph's edge."""

Read = Callable[[], Pixels | ScaledImage]
Middle = tuple[float, float]
Drawn = tuple[Read, list[Middle]]
"""What reads an image, and the middles of its faces."""


def photograph(faces: list[Image.Image], rng: np.random.Generator, times: int) -> tuple[Image.Image, list[Middle]]:
    """Return four faces on a ground of noise, one in each quarter, and their middles."""
    wide, high = (times * side for side in SIZE)
    ground = rng.integers(60, 200, 3) + rng.normal(0, 25, (SIZE[1] // 8, SIZE[0] // 8, 3))
    whole = Image.fromarray(ground.clip(0, 255).astype(np.uint8)).resize((wide, high), Image.Resampling.BICUBIC)
    middles = []
    for number, face in enumerate(faces):
        side = times * int(rng.integers(*SIDES))
        # From the outer edge of its quarter, or a little beyond it.
        right, down = rng.uniform(-_CUT * side, (wide / 2 - side, high / 2 - side)).astype(int)
        left = int(wide - side - right if number % 2 else right)
        top = int(high - side - down if number // 2 else down)
        whole.paste(face.resize((side, side), Image.Resampling.BICUBIC), (left, top))
        middles.append((left + side / 2, top + side / 2))
    return whole, middles


def photographs(faces: list[Image.Image], read: Callable[[Image.Image], Read], times: int = 1) -> Iterator[Drawn]:
    """Yield the photographs, the same in every run."""
    rng = np.random.default_rng(0)
    for first in range(0, len(faces) - len(faces) % 4, 4):
        image, middles = photograph(faces[first : first + 4], rng, times)
        yield read(image), middles


def alone(faces: list[Image.Image], side: int) -> Iterator[Drawn]:
    """Yield an image of each face."""
    for face in faces:
        yield pixels(face.resize((side, side), Image.Resampling.BICUBIC)), [(side / 2, side / 2)]


def pixels(image: Image.Image) -> Read:
    """Return what gives an image that is decoded already."""
    decoded = np.asarray(image)
    return lambda: decoded


def jpeg(image: Image.Image, *, reduced: bool) -> Read:
    """Return what decodes an image, reduced or whole."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return partial(read_scaled if reduced else read_image, file.getvalue(), limits=ImageLimits())


def found_at(inputs: list[FaceInput], middle: Middle) -> FaceInput | None:
    """Return the face whose box covers that point."""
    x, y = middle
    for given in inputs:
        assert given.face is not None
        box = given.face.box
        if 0 < x - box.x < box.width and 0 < y - box.y < box.height:
            return given
    return None


def measure(recognizer: Recognizer, faces: list[Image.Image], classes: list[str]) -> dict[str, Any]:
    """Return shares of faces, and CPU milliseconds of an image in reading it, finding and cutting out its faces."""
    large = faces[:LARGE_FACES]
    groups = {
        "four": photographs(faces, pixels),
        **{f"alone_{side}": alone(faces, side) for side in ALONE},
        "four, large, whole": photographs(large, partial(jpeg, reduced=False), TIMES),
        "four, large, reduced": photographs(large, partial(jpeg, reduced=True), TIMES),
    }
    rows: dict[str, Any] = {}
    for name, drawn in groups.items():
        seen: list[FaceInput | None] = []
        took, others = [], 0
        for read, middles in drawn:
            began = time.process_time()
            found = recognizer.find(read())
            took.append(time.process_time() - began)
            seen += (here := [found_at(found.faces, middle) for middle in middles])
            others += found.faces_total - sum(face is not None for face in here)
        answers = iter(recognizer.read_all([face for face in seen if face is not None]))
        right = [
            face is not None and next(answers).expression == wanted for face, wanted in zip(seen, classes, strict=False)
        ]
        rows[name] = {
            "faces": len(seen),
            "found": round(sum(face is not None for face in seen) / len(seen), 4),
            "right": round(sum(right) / len(seen), 4),
            "others": others,
            "ms": round(1e3 * statistics.median(took), 2),
        }
    return rows


def main() -> None:
    """Measure and add the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    valid = ferplus.load(asked.data, "valid")
    faces = [Image.fromarray(valid.read(place)).convert("RGB") for place in range(len(valid))]
    classes = [str(valid.classes[label]) for label in valid.labels]
    rows = measure(Recognizer.from_weights(precision="float32"), faces, classes)
    runs = json.loads(asked.out.read_text())["runs"] if asked.out.exists() else []
    asked.out.write_text(json.dumps({"runs": [*runs, {**heading(), "rows": rows}]}, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
