"""Quantisation: activation ranges for int8 arithmetic, calibrated on training images."""

from pathlib import Path

import numpy as np

from manet.backends.openvino.calibration import Calibration
from manet.backends.openvino.ranges import ranges
from manet.files import atomic_write, sha256_of
from manet.vision.preprocess import network_input
from manet.weights.entry import Weights
from manet.weights.registry import locate
from training.data.datasets.expression_set import ExpressionSet


def quantize(weights: Weights, data: ExpressionSet, images: int, seed: int, out: Path) -> str:
    """Write the int8 calibration of weights, and return the file's SHA-256.

    Args:
        weights: installed weights.
        data: images for calibration; never those that the quantised weights are evaluated on.
        images: how many of them are used, drawn without replacement; all if there are fewer.
        seed: of that choice.
        out: output file.

    Raises:
        WeightsNotInstalledError: if the weights' file is not installed.
        CheckpointError: if the file is not valid.
        DatasetError: if an image cannot be read.
    """
    path = locate(weights)
    chosen = np.random.default_rng(seed).permutation(len(data))[:images].tolist()
    inputs = [network_input(data.read(place), weights.preprocessing) for place in chosen]  # (S, S, 3) each
    calibration = Calibration(sha256_of(path), ranges(weights, path, inputs))
    atomic_write(out, calibration.save)
    return sha256_of(out)
