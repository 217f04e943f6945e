"""How the answer moves when an image is as bad as users' images are.

    python bench/studies/robustness.py --data DIR --photos PHOTOS --out bench/results/robustness.json

Twice: on photographs, through the detector, where the table shows the probability of the expression that a person
sees; and on FER+ Valid, where accuracy counts. The photographs: the four that the project was given, which never leave
the machine, and the astronaut of scikit-image (public domain).
"""

import argparse
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image, ImageEnhance

from manet import Recognizer
from manet.backends.factory import load_backend
from manet.labels import Expression
from manet.vision.images import ImageLimits, read_image
from manet.vision.preprocess import Pixels
from manet.weights.registry import resolve
from training.data.datasets import ferplus
from training.eval import evaluate
from training.eval.temperature import expected_calibration_error
from training.provenance import commit, machine

Degrade = Callable[[Image.Image], Image.Image]

SEEN: Mapping[str, Expression] = {
    "neutral.jpeg": Expression.NEUTRAL,
    "happy-baby.jpeg": Expression.HAPPINESS,
    "angry.jpg": Expression.ANGER,
    "group.jpeg": Expression.NEUTRAL,
    "astronaut": Expression.HAPPINESS,
}
"""What a person sees in each photograph's largest face."""


def _turned(degrees: float) -> Degrade:
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(127, 127, 127))


def _smaller(share: float) -> Degrade:
    return lambda image: image.resize((round(image.width * share), round(image.height * share)))


def _jpeg(quality: int) -> Degrade:
    def through(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return through


def _covered(left: float, upper: float, right: float, lower: float) -> Degrade:
    """Cover a part of the image, its edges as shares of the sides, with grey."""

    def covered(image: Image.Image) -> Image.Image:
        image = image.copy()
        width, height = image.size
        box = (round(left * width), round(upper * height), round(right * width), round(lower * height))
        image.paste((110, 110, 110), box)
        return image

    return covered


DEGRADATIONS: Mapping[str, Degrade] = {
    "as it is": lambda image: image,
    "half the size": _smaller(0.5),
    "a quarter of the size": _smaller(0.25),
    "dark (0.3)": lambda image: ImageEnhance.Brightness(image).enhance(0.3),
    "low contrast (0.4)": lambda image: ImageEnhance.Contrast(image).enhance(0.4),
    "turned by 15 degrees": _turned(15),
    "turned by 30 degrees": _turned(30),
    "turned by -30 degrees": _turned(-30),
    "JPEG quality 30": _jpeg(30),
    "JPEG quality 10": _jpeg(10),
}
HALVES: Mapping[str, Degrade] = {
    "left half covered": _covered(0, 0, 0.5, 1),
    "lower half covered": _covered(0, 0.55, 1, 1),
    "eyes covered": _covered(0, 0.25, 1, 0.5),
}


def on_photographs(recognizer: Recognizer, photos: Path) -> list[dict[str, object]]:
    """Return, for each photograph and degradation, the answer and the probability of what a person sees."""
    rows: list[dict[str, object]] = []
    for name, seen in SEEN.items():
        image = skimage.data.astronaut() if name == "astronaut" else _read(photos / name)
        [face, *_] = recognizer.recognize(image)
        assert face.face is not None
        box = face.face.box
        shares = (box.x / image.shape[1], box.y / image.shape[0])
        extent = (box.width / image.shape[1], box.height / image.shape[0])
        halves = {  # of the face, not of the image
            "left half of the face covered": _covered(
                shares[0], shares[1], shares[0] + extent[0] / 2, shares[1] + extent[1]
            ),
            "lower half of the face covered": _covered(
                shares[0], shares[1] + extent[1] * 0.55, shares[0] + extent[0], shares[1] + extent[1]
            ),
        }
        for degradation, degrade in {**DEGRADATIONS, **halves}.items():
            faces = recognizer.recognize(np.asarray(degrade(Image.fromarray(image))))
            row = {"photo": name, "seen": seen, "degradation": degradation, "faces": len(faces)}
            if faces:
                row |= {"answer": faces[0].expression, "probability": round(faces[0].probabilities[seen], 3)}
            rows.append(row)
    return rows


def _read(path: Path) -> Pixels:
    return read_image(path.read_bytes(), limits=ImageLimits())


def on_crops(weights_name: str, data: Path, sizes: list[int]) -> list[dict[str, object]]:
    """Return accuracy on FER+ Valid under each degradation, and at other input sizes."""
    weights = resolve(weights_name)
    backend = load_backend(weights)
    valid = ferplus.load(data, "valid")
    faces = [valid.read(index) for index in range(len(valid))]
    rows: list[dict[str, object]] = []

    def measure(name: str, degrade: Degrade, size: int) -> None:
        changed = [np.asarray(degrade(Image.fromarray(face)).resize((48, 48)).convert("L")) for face in faces]
        spec = replace(weights.preprocessing, input_size=size)
        engine = (
            backend if size == weights.preprocessing.input_size else load_backend(replace(weights, preprocessing=spec))
        )
        logits = evaluate.predict(replace(valid, pixels=np.stack(changed)), spec, engine.infer)
        found = evaluate.score(valid, logits)
        rows.append(
            {
                "degradation": name,
                "input_size": size,
                "n": found.n,
                "accuracy": round(found.accuracy, 2),
                "macro_recall": round(found.macro_recall, 2),
                "calibration_error": round(expected_calibration_error(logits, valid.labels, weights.temperature), 2),
            }
        )
        print(rows[-1], flush=True)

    for name, degrade in {**DEGRADATIONS, **HALVES}.items():
        measure(name, degrade, weights.preprocessing.input_size)
    for size in sizes:
        measure("as it is", DEGRADATIONS["as it is"], size)
    return rows


def tables(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the result as Markdown."""
    yield "## How the answer moves when the image is bad"
    yield ""
    weights = result["weights"]
    yield f"Weights `{weights['id']}`, SHA-256 `{weights['sha256'][:12]}...`, commit `{result['commit']}`."
    yield "On photographs, through the detector: the probability of what a person sees in the largest face, and the"
    yield "answer where it is another one; `-` where no face was found."
    yield ""
    photos = list(SEEN)
    heads = (f"{Path(name).stem} ({SEEN[name]})" for name in photos)
    yield f"| image | {' | '.join(heads)} |"
    yield f"|---|{'---|' * len(photos)}"
    cells: dict[str, dict[str, str]] = {}
    for row in result["photographs"]:
        answer = "-"
        if row["faces"]:
            other = "" if row["answer"] == row["seen"] else f" {row['answer']}"
            answer = f"{row['probability']:.2f}{other}"
        cells.setdefault(row["degradation"], {})[row["photo"]] = answer
    for degradation, answers in cells.items():
        yield f"| {degradation} | {' | '.join(answers[name] for name in photos)} |"
    yield ""
    yield "On FER+ Valid, 3,199 images by the majority protocol, in percent:"
    yield ""
    yield "| images of 48 x 48 px | input, px | accuracy | macro recall | calibration error |"
    yield "|---|---|---|---|---|"
    for row in result["ferplus_valid"]:
        figures = f"{row['accuracy']:.2f} | {row['macro_recall']:.2f} | {row['calibration_error']:.2f}"
        yield f"| {row['degradation']} | {row['input_size']} | {figures} |"


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ferplus/")
    parser.add_argument("--photos", type=Path, required=True, help="folder of the four photographs")
    parser.add_argument("--weights", default="ferplus")
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="other input sizes to try")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, required=True, help="the same as tables")
    asked = parser.parse_args()
    weights = resolve(asked.weights)
    result = {
        "commit": commit(),
        "machine": machine(),
        "weights": {"id": weights.id, "sha256": weights.sha256},
        "photographs": on_photographs(Recognizer.from_weights(asked.weights), asked.photos),
        "ferplus_valid": on_crops(asked.weights, asked.data, asked.sizes),
    }
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    asked.markdown.write_text("\n".join(tables(result)) + "\n")


if __name__ == "__main__":
    main()
