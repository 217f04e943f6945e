"""Explanation: what the network went by in one face, as numbers.

What a branch says is reported as a sum over places in the face. Two words are used:

*Score* of an expression: its logit less the mean of all the branch's logits. Softmax does not see what is added to all
logits alike, so neither does the score.

*Evidence* of a position: what it adds to the score of the explained expression, in logits; below zero where it speaks
against it. All positions of a branch and its ``bias`` sum to the branch's score.

The local branch averages a map over its positions, and a linear layer makes the logits, so what each position adds can
be exact: this is Grad-CAM (Selvaraju et al., ICCV 2017) at the branch's last map, without its last step, which
drops what is below zero; for a network that ends like this one it equals the older CAM (Zhou et al., CVPR 2016).

The multi-scale branch ends in 3 x 3 positions (at 80 px) that all see most of the face: by their gradients, their
middles lie within some 14 px of each other. They tell no place. So its evidence is that of the finer map that it begins
with, by integrated gradients (Sundararajan et al., ICML 2017): what each position adds on the way from no features to
those of the face. The sum is exact but for the steps of the integration, some hundredths of a logit.

That the numbers add up does not say that a map points at what counts. Measured by covering (bench/results/explain.json,
200 images of FER+ Valid, the shipped weights): all three do, against squares anywhere and against those of another
face.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from manet.labels import Expression
from manet.recognizer import RecognizedFace
from manet.vision.preprocess import Pixels

Grid = npt.NDArray[np.float32]
"""One number for each position, (rows, columns), from the upper left."""

PatchName = Literal["upper_left", "upper_right", "lower_left", "lower_right"]
PATCH_NAMES: tuple[PatchName, ...] = ("upper_left", "upper_right", "lower_left", "lower_right")
"""The four patches of the local attention module, in its order p1..p4; left and right are the image's."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One of the four quarters of the face, each of which the local module sees alone.

    Attributes:
        name: which.
        evidence: what its positions add to the local branch's score, in logits.
        share: its part in what the four patches say for the expression, 0..1: its evidence, or 0 where that is below
            zero, over the sum of the four. They sum to 1, or are all 0 where no patch speaks for it.
        attention: the mean over its positions of its last block's spatial gate (CBAM), 0..1: how much of that block's
            residual the module lets through there.
    """

    name: PatchName
    evidence: float
    share: float
    attention: float


@dataclass(frozen=True, slots=True)
class FaceMap:
    """One number for each position of a square map of features, and where in the face the positions lie.

    Attributes:
        values: the numbers.
        stride: pixels of the network's input from one position to the next. The first lies at the first pixel: a padded
            convolution of stride 2 has its output i in the middle over its input 2i.
        seam: for the local module, the rows (and columns) of its first patch, and the pixel at which its second one
            begins; None for a map in one piece.
    """

    values: Grid
    stride: int
    seam: tuple[int, int] | None = None

    def laid_over(self, side: int) -> Grid:
        """Return the map as fine as the face, (side, side), between positions by bilinear interpolation.

        The patches of the local module never see each other, so nothing is interpolated over the seam.

        Args:
            side: of the network's input, in pixels.
        """
        axis = self._axis(side)
        laid: Grid = (axis @ self.values @ axis.T).astype(np.float32)
        return laid

    def _axis(self, side: int) -> npt.NDArray[np.float64]:
        """Return each position's weight in each pixel, (side, positions); it is the same down and across."""
        count = len(self.values)
        cells, pixel = (count, side) if self.seam is None else self.seam
        weights = np.zeros((side, count))
        for pixels, places in ((range(pixel), range(cells)), (range(pixel, side), range(cells, count))):
            centres = [pixels.start + self.stride * (place - places.start) for place in places]
            for place in places:
                here = np.eye(len(places))[place - places.start]
                weights[pixels.start : pixels.stop, place] = np.interp(pixels, centres, here)
        return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """What one of the two branches says by itself, and where it read it.

    Attributes:
        vote: the face and the branch's own probabilities, calibrated with the temperature of the fused answer. The
            fused probabilities are the two votes' weighted geometric mean, weighed with lambda, scaled to sum to 1.
        score: of the explained expression, in logits.
        evidence: what each position adds to it.
        bias: the rest of it: what the local branch's linear layer adds wherever one looks, and what the multi-scale
            branch says where there are no features.
    """

    vote: RecognizedFace
    score: float
    evidence: FaceMap
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a face got its answer.

    Attributes:
        answer: the fused answer.
        expression: the one that is explained: the answered one, or another that was requested.
        local: the local attention module's branch.
        multi_scale: the multi-scale module's branch.
        patches: the local module's four, in the order of ``PATCH_NAMES``.
        attention: the spatial gates of the four patches' last blocks, put together; 0..1.
        fusion_weight: the local branch's share in the answer, the paper's lambda.
        pixels: the face as the network saw it, uint8 (S, S, 3).
    """

    answer: RecognizedFace
    expression: Expression
    local: Branch
    multi_scale: Branch
    patches: tuple[Patch, Patch, Patch, Patch]
    attention: FaceMap
    fusion_weight: float
    pixels: Pixels

    @property
    def side(self) -> int:
        """S, the side of the network's input in pixels."""
        return len(self.pixels)

    def fused(self) -> Grid:
        """Return the evidence of both branches as they are fused, in logits for each pixel of the face, (S, S)."""
        parts = ((self.fusion_weight, self.local), (1 - self.fusion_weight, self.multi_scale))
        area = self.side**2
        layers = [
            weight * branch.evidence.values.size / area * branch.evidence.laid_over(self.side)
            for weight, branch in parts
        ]
        total: Grid = np.sum(layers, axis=0, dtype=np.float32)
        return total


def maps_of(explanation: Explanation) -> Mapping[str, FaceMap]:
    """Return the three maps by their names: both branches' evidence, and the local module's attention."""
    return {
        "local": explanation.local.evidence,
        "multi_scale": explanation.multi_scale.evidence,
        "attention": explanation.attention,
    }


_DIGITS = 5


def record(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as plain values: the numbers of the classes above, maps as lists of rows.

    What the service answers and ``manet explain --json`` prints.
    """
    return {
        "expression": str(explanation.expression),
        "fusion_weight": explanation.fusion_weight,
        "local": _branch_record(explanation.local),
        "multi_scale": _branch_record(explanation.multi_scale),
        "patches": [asdict(patch) for patch in explanation.patches],
        "attention": _rows(explanation.attention.values),
    }


def _branch_record(branch: Branch) -> dict[str, Any]:
    return {
        "expression": str(branch.vote.expression),
        "confidence": branch.vote.confidence,
        "probabilities": dict(branch.vote.probabilities),
        "score": round(branch.score, _DIGITS),
        "bias": round(branch.bias, _DIGITS),
        "evidence": _rows(branch.evidence.values),
    }


def _rows(values: Grid) -> list[list[float]]:
    rows: list[list[float]] = values.astype(np.float64).round(_DIGITS).tolist()
    return rows
