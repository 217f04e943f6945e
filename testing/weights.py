"""Weights that no registry knows, of a network no one trained: small, and quick to load."""

from pathlib import Path

import numpy as np
import torch

from manet.labels import CLASS_ORDERS
from manet.nn.model import MANet
from manet.vision.faces import FaceCrop, Landmarks, Point
from manet.vision.preprocess import Preprocessing
from manet.weights.checkpoint import save_weights
from manet.weights.header import Header, Use

SPEC = Preprocessing(input_size=48, colour="rgb", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
CROP = FaceCrop(Landmarks(Point(0.3, 0.4), Point(0.7, 0.4), Point(0.5, 0.6), Point(0.4, 0.8), Point(0.6, 0.8)))


NARROW = 8
"""Width of a network that takes a hundredth of the work, where a test is not about the numbers."""


def own_network() -> MANet:
    """Return a narrow network, always with the same numbers."""
    torch.manual_seed(5)
    return MANet(8, width=NARROW).eval()


def save_own(path: Path) -> Path:
    """Write its weights as a training run leaves them, and return the file."""
    use = Use(dataset="ferplus", preprocessing=SPEC, crop=CROP, fusion_weight=0.6, temperature=1.5)
    header = Header(classes=CLASS_ORDERS["ferplus"], wiring="bidirectional", provenance="", use=use)
    save_weights(own_network(), path, header)
    return path


def noise(count: int) -> np.ndarray:
    """Return network inputs of noise, (count, 48, 48, 3), always the same."""
    return np.random.default_rng(1).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)
