"""Whether explanations point at what counts: covering what they point at, against covering as much anywhere else.

    python bench/studies/explain.py --data DIR --out bench/results/explain.json

On images of FER+ Valid, drawn by a seed. In each, a square is covered with the image's own mean grey, and the
probability of the expression that was answered before tells by how much the answer moved. The square is

*pointed*  where the map holds the most evidence (of all squares that lie within the face);
*random*   anywhere within the face, evenly drawn; several of them, averaged;
*another*  where the same kind of map points in another image of the draw: whatever is only in the middle, or only
           where faces have a mouth, this square covers, too.

Images are compared with themselves: the figures are of the differences, *pointed* less the other, image by image.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy import stats

from manet import Recognizer
from manet.explain.attribution import Explainer
from manet.recognizer import FaceInput
from manet.vision.preprocess import Pixels, network_input
from testing.occlusion import MAPS, Floats, covered, evidence_of, most_evidence, probabilities
from training.data.datasets import ferplus
from training.provenance import commit, machine


@dataclass(frozen=True)
class Drops:
    """By how much the answer's probability fell in each image, (images,) each; and in how many it changed."""

    pointed: Mapping[str, Floats]
    another: Mapping[str, Floats]
    random: Floats
    changed: Mapping[str, float]


def measure(
    recognizer: Recognizer, explainer: Explainer, faces: Sequence[Pixels], *, side: int, squares: int, seed: int
) -> Drops:
    """Cover every face in every way and return what it did.

    Args:
        recognizer: answers.
        explainer: of the same weights.
        faces: network input, uint8 (S, S, 3).
        side: of the squares, in pixels.
        squares: random ones in each face.
        seed: of their places.
    """
    generator = np.random.default_rng(seed)
    explained = [explainer.explain(FaceInput(None, face)) for face in track(faces, "explain")]
    corners = [{name: most_evidence(one, side) for name, one in evidence_of(e).items()} for e in explained]
    fell: dict[str, list[float]] = {}
    turned: dict[str, list[float]] = {}
    for number, face in enumerate(track(faces, "cover")):
        other = corners[(number + 1) % len(faces)]  # the draw has no order, so the next one is any other
        places = {f"pointed {name}": [corners[number][name]] for name in MAPS}
        places |= {f"another {name}": [other[name]] for name in MAPS}
        anywhere = generator.integers(0, len(face) - side + 1, (squares, 2))
        places["random"] = [(int(row), int(column)) for row, column in anywhere]
        batch = [face, *(covered(face, corner, side) for one in places.values() for corner in one)]
        before, *after = probabilities(recognizer, batch)
        answer, start = int(before.argmax()), 0
        for name, one in places.items():
            rows = np.array(after[start : start + len(one)])
            start += len(one)
            fell.setdefault(name, []).append(float(before[answer] - rows[:, answer].mean()))
            turned.setdefault(name, []).append(float((rows.argmax(axis=1) != answer).mean()))
    return Drops(
        pointed={name: np.array(fell[f"pointed {name}"]) for name in MAPS},
        another={name: np.array(fell[f"another {name}"]) for name in MAPS},
        random=np.array(fell["random"]),
        changed={name: float(np.mean(one)) for name, one in turned.items()},
    )


def paired(first: Floats, second: Floats) -> dict[str, float]:
    """Return how much larger the first is than the second, image by image, and how sure that is."""
    difference = first - second
    low, high = stats.t.interval(0.95, len(difference) - 1, difference.mean(), stats.sem(difference))
    return {
        "difference": round(float(difference.mean()), 4),
        "low_95": round(float(low), 4),
        "high_95": round(float(high), 4),
        "larger_in": round(float((difference > 0).mean()), 4),
        "p_wilcoxon_one_sided": float(stats.wilcoxon(difference, alternative="greater").pvalue),
    }


def rows(drops: Drops) -> list[dict[str, object]]:
    """Return the figures, one row for each map."""
    return [
        {
            "map": name,
            "drop_pointed": round(float(drops.pointed[name].mean()), 4),
            "drop_random": round(float(drops.random.mean()), 4),
            "drop_another": round(float(drops.another[name].mean()), 4),
            "changed_pointed": round(drops.changed[f"pointed {name}"], 4),
            "changed_random": round(drops.changed["random"], 4),
            "changed_another": round(drops.changed[f"another {name}"], 4),
            "over_random": paired(drops.pointed[name], drops.random),
            "over_another": paired(drops.pointed[name], drops.another[name]),
        }
        for name in MAPS
    ]


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ferplus/")
    parser.add_argument("--weights", default="ferplus")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--squares", type=int, default=10, help="random ones in each image")
    parser.add_argument("--share", type=float, default=0.3, help="side of a square, of the face's side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    recognizer = Recognizer.from_weights(asked.weights)
    spec = recognizer.weights.preprocessing
    valid = ferplus.load(asked.data, "valid")
    drawn = np.random.default_rng(asked.seed).choice(len(valid), asked.images, replace=False)
    faces = [network_input(valid.read(int(index)), spec) for index in drawn]
    side = round(asked.share * spec.input_size)
    drops = measure(recognizer, Explainer.load(recognizer), faces, side=side, squares=asked.squares, seed=asked.seed)
    result = {
        "commit": commit(),
        "machine": machine(),
        "weights": {"id": recognizer.weights.id, "sha256": recognizer.weights.sha256},
        "engine": f"{recognizer.backend.name}, {recognizer.backend.precision}",
        "images": asked.images,
        "random_squares": asked.squares,
        "square": {"side": side, "face": spec.input_size},
        "seed": asked.seed,
        "rows": rows(drops),
    }
    asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
