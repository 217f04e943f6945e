"""Occlusion: squares of a face covered where a map points, and what the network answers then."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from manet.explain.result import Explanation, Grid
from manet.recognizer import FaceInput, Recognizer
from manet.vision.preprocess import Pixels

Floats = npt.NDArray[np.float64]
Corner = tuple[int, int]
"""The upper left pixel of a square, row and column."""

MAPS = ("local", "multi_scale", "fused")


def most_evidence(evidence: Grid, side: int) -> Corner:
    """Return the square of that side which holds the most evidence."""
    sums = np.zeros((len(evidence) + 1, len(evidence) + 1))
    sums[1:, 1:] = evidence.astype(np.float64).cumsum(0).cumsum(1)
    held = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    row, column = np.unravel_index(held.argmax(), held.shape)
    return int(row), int(column)


def covered(face: Pixels, corner: Corner, side: int) -> Pixels:
    """Return the face with a square covered in the face's own mean colour."""
    row, column = corner
    face = face.copy()
    face[row : row + side, column : column + side] = face.mean(axis=(0, 1)).round()
    return face


def evidence_of(explanation: Explanation) -> dict[str, Grid]:
    """Return both branches' evidence and that of their fusion, each as fine as the face."""
    branches = {"local": explanation.local, "multi_scale": explanation.multi_scale}
    laid = {name: branch.evidence.laid_over(explanation.side) for name, branch in branches.items()}
    return {**laid, "fused": explanation.fused()}


def probabilities(recognizer: Recognizer, faces: Sequence[Pixels]) -> Floats:
    """Return the calibrated probabilities of faces, (N, classes)."""
    logits = recognizer.classify(np.stack(faces))
    read = (recognizer.read(FaceInput(None, face), row) for face, row in zip(faces, logits, strict=True))
    return np.array([list(answer.probabilities.values()) for answer in read])
