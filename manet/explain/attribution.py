"""Explainer: looks into the network, in PyTorch, for what it went by in a face.

The evidence comes from captum: of the local branch ``LayerGradCam`` at its last maps, of the multi-scale branch
``IntegratedGradients`` from no features at all to those that both branches see.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam
from torch import Tensor, nn

from manet.explain.result import PATCH_NAMES, Branch, Explanation, FaceMap, Grid, Patch
from manet.labels import Expression
from manet.nn.classifier import FusedClassifier, load_classifier
from manet.nn.model import BranchLogits, fuse
from manet.nn.wiring import PATCHES
from manet.recognizer import FaceInput, Recognizer

FEATURE_STRIDE = 8
"""Pixels from one position of the features to the next: conv1, the pooling and layer2 halve the face, rounding up.

The local module halves them once more.
"""

_STEPS = 8
"""Of the integration; with 16 the maps point no better."""


class Explainer:
    """Explains faces one at a time, on one thread; calls from several threads wait for each other.

    The network is one of its own, in float32, so its probabilities may differ from a served engine's in their last
    digits.

    Args:
        recognizer: whose answers are explained; it reads logits.
        classifier: the same weights in PyTorch, on the CPU, in eval mode.
    """

    def __init__(self, recognizer: Recognizer, classifier: FusedClassifier) -> None:
        self._recognizer = recognizer
        self._classifier = classifier.eval()
        self._turn = threading.Lock()

    @classmethod
    def load(cls, recognizer: Recognizer, store: Path | None = None) -> Self:
        """Return an explainer of a recognizer's weights.

        Args:
            recognizer: whose answers are explained.
            store: folder of weights that the user imported; None means the default one.

        Raises:
            WeightsNotInstalledError: if the weights' file is not on this machine.
            CheckpointError: if the file is not what the registry says.
        """
        return cls(recognizer, load_classifier(recognizer.weights, store))

    def explain(self, face: FaceInput, expression: Expression | None = None) -> Explanation:
        """Return what the network went by in a face.

        Args:
            face: as ``Recognizer.find`` returned it.
            expression: the one to explain; None means the one that the network answers.

        Raises:
            ValueError: if the weights do not know the expression.
        """
        classes = self._recognizer.weights.classes
        if expression is not None and expression not in classes:
            raise ValueError(f"the expressions of the weights are {', '.join(classes)}; {expression} is none of them")
        with self._turn, _single_threaded():
            images = torch.from_numpy(face.pixels.copy())[None].permute(0, 3, 1, 2)
            x = self._classifier.normalise(images)  # (1, 3, S, S)
            logits, gates = self._forward(x)
            weight = self._classifier.fusion_weight
            answer = self._recognizer.read(face, fuse(logits, weight)[0].numpy())
            explained = answer.expression if expression is None else expression
            target = classes.index(explained)
            patches = [self._grad_cam(x, f"layer4_1_p{k}", target) for k in range(1, PATCHES + 1)]
            whole = self._integrated(x, target)
        seam = (len(patches[0]), FEATURE_STRIDE * (-(-len(face.pixels) // FEATURE_STRIDE) // 2))
        return Explanation(
            answer=answer,
            expression=explained,
            local=self._branch(face, logits.local, target, FaceMap(_together(patches), 2 * FEATURE_STRIDE, seam)),
            multi_scale=self._branch(face, logits.multi_scale, target, FaceMap(whole, FEATURE_STRIDE)),
            patches=_patches(patches, gates),
            attention=FaceMap(_together(gates), 2 * FEATURE_STRIDE, seam),
            fusion_weight=weight,
            pixels=face.pixels,
        )

    def _forward(self, x: Tensor) -> tuple[BranchLogits, list[Grid]]:
        """Return both branches' logits, and the last spatial gate of each patch."""
        gates: list[Grid] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            gates.append(torch.sigmoid(output)[0, 0].numpy())

        network = self._classifier.network
        places = [f"layer4_1_p{k}.1.cbam.SpatialGate.spatial" for k in range(1, PATCHES + 1)]
        hooks = [network.get_submodule(place).register_forward_hook(keep) for place in places]
        try:
            with torch.no_grad():
                logits: BranchLogits = network(x)
        finally:
            for hook in hooks:
                hook.remove()
        return logits, gates

    def _grad_cam(self, x: Tensor, layer: str, target: int) -> Grid:
        """Return what each position of a layer adds to the local branch's score of a class, (rows, columns)."""
        network = self._classifier.network
        cam = LayerGradCam(lambda images: _scores(network(images).local), network.get_submodule(layer))
        with torch.enable_grad():
            evidence: Tensor = cam.attribute(x, target=target)  # (1, 1, rows, columns)
        values: Grid = evidence.detach()[0, 0].numpy()
        return values

    def _integrated(self, x: Tensor, target: int) -> Grid:
        """Return what each position of the features adds to the multi-scale branch's score of a class."""
        network = self._classifier.network
        with torch.no_grad():
            features = network.pre_extract(x)
        whole = IntegratedGradients(lambda given: _scores(network.fc_2(network.multi_scale(given))))
        with torch.enable_grad():
            evidence: Tensor = whole.attribute(features, target=target, n_steps=_STEPS)  # (1, 128, rows, columns)
        values: Grid = evidence.detach()[0].sum(dim=0).float().numpy()
        return values

    def _branch(self, face: FaceInput, logits: Tensor, target: int, evidence: FaceMap) -> Branch:
        score = float(logits[0, target] - logits[0].mean())
        return Branch(
            vote=self._recognizer.read(face, logits[0].numpy()),
            score=score,
            evidence=evidence,
            bias=score - float(evidence.values.sum()),
        )


def _scores(logits: Tensor) -> Tensor:
    return logits - logits.mean(dim=1, keepdim=True)


def _together(grids: list[Grid]) -> Grid:
    first, second, third, fourth = grids
    return np.block([[first, second], [third, fourth]])


def _patches(evidence: list[Grid], gates: list[Grid]) -> tuple[Patch, Patch, Patch, Patch]:
    sums = [float(grid.sum()) for grid in evidence]
    speaking = sum(max(0.0, one) for one in sums)
    first, second, third, fourth = (
        Patch(name, total, max(0.0, total) / speaking if speaking else 0.0, float(gate.mean()))
        for name, total, gate in zip(PATCH_NAMES, sums, gates, strict=True)
    )
    return first, second, third, fourth


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Keep PyTorch to the calling thread while inside.

    An explanation may be made beside an engine that serves: a second pool of threads would take its processors.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
