"""Where a face lies in the training images: the crop that makes a detected face look like them.

    python bench/studies/face_template.py --data DIR --out bench/results/face_template.json

The shipped detector looks at a sample of the FER+ training images, each enlarged to 192 px with a margin of its own
edge around it; what it finds in exactly one place counts. The result is the mean place of the five points, in
fractions of the image's side: the ``crop`` of the weights trained on these images.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.vision.faces import Landmarks
from manet.vision.retinaface import RetinaFaceDetector
from training.data.datasets import ferplus
from training.provenance import commit, machine

SIDE, MARGIN = 192, 48
POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


def places(landmarks: Landmarks) -> list[tuple[float, float]]:
    """Return the five points, found in an enlarged image, as fractions of the image's side."""
    points = (getattr(landmarks, name) for name in POINTS)
    return [((point.x - MARGIN) / SIDE, (point.y - MARGIN) / SIDE) for point in points]


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ferplus/")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    data = ferplus.load(asked.data, "train", "majority")
    sample = np.random.default_rng(asked.seed).choice(len(data), asked.images, replace=False)
    detector = RetinaFaceDetector(OpenVinoFaceNetwork())
    found = []
    for index in sample.tolist():
        image = Image.fromarray(data.read(index)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        padded = np.pad(np.asarray(image), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
        faces = detector.detect(padded)
        if len(faces) == 1:
            found.append(places(faces[0].landmarks))
    mean, spread = np.mean(found, axis=0), np.std(found, axis=0)  # (5, 2)
    result = {
        "commit": commit(),
        "machine": machine(),
        "openvino": version("openvino"),
        "dataset": "ferplus",
        "split": "train",
        "seed": asked.seed,
        "looked_at": asked.images,
        "found_once": len(found),
        "mean": {name: np.round(place, 4).tolist() for name, place in zip(POINTS, mean, strict=True)},
        "spread": {name: np.round(place, 4).tolist() for name, place in zip(POINTS, spread, strict=True)},
    }
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("found_once", "mean", "spread")}, indent=2))


if __name__ == "__main__":
    main()
