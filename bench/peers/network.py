"""Network: what a peer serves, either in plain PyTorch float32 or in this project's own backend."""

import json
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import numpy as np

from manet.backends.base import Logits
from manet.backends.factory import load_backend
from manet.cpus import available_cpus
from manet.vision.faces import DetectedFace, align
from manet.vision.images import ImageLimits, read_image
from manet.vision.preprocess import Pixels, Preprocessing, network_input
from manet.weights.entry import Weights
from manet.weights.registry import resolve

VARIABLE = "BENCH_PEER"
"""Environment variable with a peer's settings, as JSON: ``engine``, ``weights``, and ``passes``: how many
forward passes may run side by side, each with its share of the CPUs; 0 leaves it to the framework, each with all."""

BATCH = 32
"""The most images in a batch, as in ours."""

Infer = Callable[[Pixels], Logits]


class PeerNetwork:
    """Images in, answers out.

    Args:
        weights: what ``infer`` runs.
        infer: runs a batch of network inputs, (N, S, S, 3).
    """

    def __init__(self, weights: Weights, infer: Infer) -> None:
        self._weights = weights
        self.infer = infer

    @classmethod
    def from_environment(cls) -> Self:
        """Return the network that the environment names, warmed up."""
        settings, weights = _requested()
        passes = settings["passes"]
        threads = max(1, available_cpus() // (passes or 1))
        if settings["engine"] == "torch":
            infer = _plain_torch(weights, threads)
        else:
            infer = load_backend(weights, threads=threads).infer
        side = weights.preprocessing.input_size
        for size in (1, BATCH):
            infer(np.zeros((size, side, side, 3), np.uint8))
        return cls(weights, _in_turns(infer, passes) if passes else infer)

    @staticmethod
    def decoder() -> Callable[[bytes], Pixels]:
        """Return what makes network input of an image, for a process that has no network of its own."""
        return partial(_decoded, spec=_requested()[1].preprocessing)

    def decode(self, jpeg: bytes) -> Pixels:
        """Return an image of one face as network input, (S, S, 3)."""
        return _decoded(jpeg, self._weights.preprocessing)

    def crop(self, image: Pixels, face: DetectedFace) -> Pixels:
        """Return a face in an image as network input, (S, S, 3)."""
        spec, crop = self._weights.preprocessing, self._weights.crop
        assert crop is not None
        return network_input(align(image, face.landmarks, crop, spec.input_size), spec)

    def read(self, logits: "np.ndarray[Any, Any]") -> dict[str, Any]:
        """Return the answer for one face's logits, (classes,)."""
        odds = np.exp((logits - logits.max()) / self._weights.temperature)
        probabilities = dict(zip(map(str, self._weights.classes), (odds / odds.sum()).tolist(), strict=True))
        best = max(probabilities, key=probabilities.__getitem__)
        return {"expression": best, "confidence": probabilities[best], "probabilities": probabilities}


def _in_turns(infer: Infer, passes: int) -> Infer:
    """Return a network that any thread may call, and that lets ``passes`` of them run side by side."""
    turn = threading.Semaphore(passes)

    def infer_in_turn(images: Pixels) -> Logits:
        with turn:
            return infer(images)

    return infer_in_turn


def _requested() -> tuple[dict[str, Any], Weights]:
    settings = json.loads(os.environ[VARIABLE])
    return settings, resolve(settings["weights"])


def _decoded(jpeg: bytes, spec: Preprocessing) -> Pixels:
    return network_input(read_image(jpeg, limits=ImageLimits()), spec)


def _plain_torch(weights: Weights, threads: int) -> Infer:
    """Return the network as PyTorch's documentation runs one: float32, eval mode, inference mode, channels_last."""
    import torch  # noqa: PLC0415 - a peer with our backend does not load it

    from manet.nn.classifier import load_classifier  # noqa: PLC0415

    torch.set_num_threads(threads)
    classifier = load_classifier(weights, None).eval().to(memory_format=torch.channels_last)

    def infer(images: Pixels) -> Logits:
        with torch.inference_mode():
            logits: Logits = classifier(torch.from_numpy(images)).numpy()
        return logits

    return infer
