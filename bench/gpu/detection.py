"""Detection: RetinaFace's network on the device, its candidates and its speed in batches."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import skimage.data
import torch
from PIL import Image

from bench.bare import repeated
from bench.gpu.setting import Row, Setting
from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.backends.torch_face_network import TorchFaceNetwork
from manet.vision.face_network import Candidates
from manet.vision.preprocess import Pixels
from service.inference.batched_faces import MOST_CANVASES

_CANVAS = (544, 672)
"""Height and width of the canvas of a photograph that is a third wider than high, px."""

_LEAST = 0.8
"""The detector's least score."""

_ALLOWED = {False: 1e-3, True: 0.02}
"""How far a face may be off OpenVINO's in float32, and in float16; see ``_off``."""


def canvas() -> Pixels:
    """Return a portrait as a canvas."""
    return np.asarray(Image.fromarray(skimage.data.astronaut()).resize(_CANVAS[::-1]))


def detect(setting: Setting) -> Iterator[Row]:
    """Yield, for float32 and float16, how far a face is off that of OpenVINO, and canvases a second in batches."""
    portrait = canvas()
    wanted = OpenVinoFaceNetwork(threads=1).candidates(portrait, _LEAST)
    for half in (False, True):
        network = TorchFaceNetwork(torch.device(setting.device), half=half)
        off = _off(network.batch([portrait], _LEAST)[0], wanted)
        row = {"what": "detection", "precision": "float16" if half else "float32", "canvas": _CANVAS}
        sizes = {
            size: repeated(partial(network.batch, [portrait] * size, _LEAST), size, setting.scale.seconds)
            for size in setting.scale.sizes
            if size <= MOST_CANVASES
        }
        yield {**row, "off": off, "ok": off <= _ALLOWED[half], "sizes": sizes}


def _off(found: Candidates, wanted: Candidates) -> float:
    """Return by how much the likeliest face's box and points are off, in tenths of its prior's side."""
    if not len(found.scores):
        return 10.0  # the side itself: there is none
    pairs = ((found.offsets, wanted.offsets), (found.points, wanted.points))
    return round(max(float(np.abs(here[0] - there[0]).max()) for here, there in pairs), 6)
