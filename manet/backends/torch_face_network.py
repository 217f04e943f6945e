"""TorchFaceNetwork: RetinaFace's network in PyTorch, on a device that computes several canvases together.

The weights are those of the file that OpenVINO runs; BatchNorm is folded into them there.

Source: Deng, Guo, Zhou, Yu, Kotsia, Zafeiriou, "RetinaFace: Single-stage Dense Face Localisation in the Wild", 2019
(arXiv 1905.00641): a backbone, here MobileNet (Howard et al., arXiv 1704.04861) of a quarter of its width, a feature
pyramid (Lin et al., arXiv 1612.03144), context modules as of SSH (Najibi et al., arXiv 1708.03979), and heads.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, relu

from manet.backends.openvino.runtime import core
from manet.backends.selection import Choice
from manet.files import verify_sha256
from manet.vision.face_network import MEAN, NETWORK_FILE, NETWORK_SHA256, Candidates
from manet.vision.preprocess import Pixels

_SLOPE = 0.1
"""Of every activation that lets negative numbers through."""

_STAGES = (
    ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)),
    ((64, 128, 2), *((128, 128, 1),) * 5),
    ((128, 256, 2), (256, 256, 1)),
)
"""Channels in, channels out and stride of the backbone's blocks; each stage ends with a feature map."""

_WIDTH = 64
"""Channels of every map of the pyramid."""

_SCORES, _OFFSETS, _POINTS = 2, 4, 10
"""Numbers that the heads say of a prior."""

_PRIORS_EACH = 2
"""Priors at each place of a map."""


class TorchFaceNetwork:
    """The network on a device; see ``manet.vision.face_network.BatchFaceNetwork``.

    Args:
        device: where it runs; on CUDA it has a stream of its own there, beside that of the other network.
        half: whether it computes in float16 in the place of float32; a CPU is slow in that.
        path: the ONNX file.

    Raises:
        ChecksumError: if the file is not the one that this code was written for.
        OSError: if it cannot be read.
    """

    def __init__(self, device: torch.device, *, half: bool, path: Path = NETWORK_FILE) -> None:
        verify_sha256(path, NETWORK_SHA256)
        network = RetinaFaceNetwork()
        network.take(_constants(path))
        network = network.eval().to(torch.float16 if half else torch.float32).to(memory_format=torch.channels_last)
        self._network = network.to(device)
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._staged = torch.empty(0, dtype=torch.uint8)  # of the largest batch so far

    def batch(self, canvases: Sequence[Pixels], least: float) -> list[Candidates]:
        """Return the candidates of each canvas, all of one shape (height, width, 3).

        Raises:
            RuntimeError: if the network fails, or answers with numbers that are not finite.
        """
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            images = self._stage(canvases).to(self._device, non_blocking=True)
            scores, offsets, points = self._network(images)
            # What is not a number is taken along, to be noticed.
            where = (~(scores < least)).nonzero()  # (K, 2)
            chosen = [part[where[:, 0], where[:, 1]] for part in (scores[..., None], offsets, points)]
            found: npt.NDArray[np.float32] = torch.cat(chosen, dim=1).cpu().numpy()  # (K, 15)
            canvas, places = where.cpu().numpy().T
        if not np.isfinite(found).all():
            raise RuntimeError("the face network answered with numbers that are not finite")
        return [
            Candidates(places[own], found[own, 0], found[own, 1:5], found[own, 5:]).best()
            for own in (slice(*ends) for ends in pairwise(np.searchsorted(canvas, np.arange(len(canvases) + 1))))
        ]

    def _stage(self, canvases: Sequence[Pixels]) -> Tensor:
        """Return the canvases side by side, uint8 (N, height, width, 3), in memory from which a device reads fast."""
        shape = (len(canvases), *canvases[0].shape)
        size = int(np.prod(shape))
        if self._staged.numel() < size:
            self._staged = torch.empty(size, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        staged = self._staged[:size].view(shape)
        np.stack(canvases, out=staged.numpy())
        return staged


class RetinaFaceNetwork(nn.Module):
    """The layers, in the order in which the file has their weights."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32))
        blocks = [nn.Sequential(*(_block(*block) for block in stage)) for stage in _STAGES]
        self.first = _convolution(3, 8, 3, stride=2)
        self.stages = nn.ModuleList(blocks)
        self.sides = nn.ModuleList(_convolution(stage[-1][1], _WIDTH, 1) for stage in _STAGES)
        self.merges = nn.ModuleList(_convolution(_WIDTH, _WIDTH, 3) for _ in range(2))  # the coarser one first
        self.contexts = nn.ModuleList(_Context() for _ in _STAGES)
        numbers = _PRIORS_EACH * (_SCORES + _OFFSETS + _POINTS)
        self.heads = nn.ModuleList(_convolution(_WIDTH, numbers, 1) for _ in _STAGES)

    def take(self, constants: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take the weights from a file's constants: those of the heads by name, all others in their order."""
        folded = iter(sorted(name for name in constants if name.startswith("onnx::Conv_")))  # numbers of three digits
        before = (self.first, self.stages, self.sides, self.merges, self.contexts)
        with torch.no_grad():
            for layer in chain.from_iterable(part.modules() for part in before):
                if isinstance(layer, nn.Conv2d):
                    _fill(layer, constants[next(folded)], constants[next(folded)])
            self.first.weight.copy_(self.first.weight.flip(1))  # trained on blue, green, red; canvases have red first
            for place, head in enumerate(self.heads):
                kinds = (f"{kind}_head.{kind}_head.{place}" for kind in ("class", "bbox", "landmark"))
                named = [(constants[f"{kind}.weight"], constants[f"{kind}.bias"]) for kind in kinds]
                weights, biases = map(np.concatenate, zip(*named, strict=True))
                _fill(head, weights, biases)

    def forward(self, canvases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return, of canvases in bytes, (N, height, width, 3), what it says of their priors.

        Returns:
            scores (N, P), offsets (N, P, 4) and points (N, P, 10), in float32.
        """
        seen = (canvases.to(self.mean.dtype) - self.mean).permute(0, 3, 1, 2)
        seen = leaky_relu(self.first(seen), _SLOPE)
        maps = []
        for stage, side in zip(self.stages, self.sides, strict=True):
            seen = stage(seen)
            maps.append(leaky_relu(side(seen), _SLOPE))
        for finer, merge in zip((1, 0), self.merges, strict=True):
            maps[finer] = leaky_relu(merge(maps[finer] + _enlarged(maps[finer + 1])), _SLOPE)
        said = [
            head(context(seen)).permute(0, 2, 3, 1)  # (N, h, w, priors at a place x numbers)
            for seen, context, head in zip(maps, self.contexts, self.heads, strict=True)
        ]
        parts = [_PRIORS_EACH * numbers for numbers in (_SCORES, _OFFSETS, _POINTS)]
        scores, offsets, points = zip(*(one.split(parts, dim=-1) for one in said), strict=True)
        return _of_all(scores, _SCORES).softmax(-1)[..., 1], _of_all(offsets, _OFFSETS), _of_all(points, _POINTS)


class _Context(nn.Module):
    """What surrounds each place of a map, seen three, five and seven places wide."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = _WIDTH // 2, _WIDTH // 4
        self.three = _convolution(_WIDTH, half, 3)
        self.wider = _convolution(_WIDTH, quarter, 3)
        self.five = _convolution(quarter, quarter, 3)
        self.widest = _convolution(quarter, quarter, 3)
        self.seven = _convolution(quarter, quarter, 3)

    def forward(self, seen: Tensor) -> Tensor:
        wider = leaky_relu(self.wider(seen), _SLOPE)
        widest = leaky_relu(self.widest(wider), _SLOPE)
        return relu(torch.cat([self.three(seen), self.five(wider), self.seven(widest)], dim=1))


def _convolution(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups)


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a convolution of each channel by itself, and one of all channels at each place."""
    apart = _convolution(inputs, inputs, 3, stride=stride, groups=inputs)
    return nn.Sequential(apart, nn.LeakyReLU(_SLOPE), _convolution(inputs, outputs, 1), nn.LeakyReLU(_SLOPE))


def _enlarged(seen: Tensor) -> Tensor:
    """Return a map, (N, C, h, w), twice as large, each place four times."""
    return interpolate(seen, scale_factor=2, mode="nearest")


def _of_all(parts: Sequence[Tensor], numbers: int) -> Tensor:
    """Return what is said of the priors of each map, (N, h, w, priors at a place x numbers), as (N, P, numbers)."""
    return torch.cat([part.reshape(len(part), -1, numbers) for part in parts], dim=1).float()


def _fill(layer: nn.Module, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> None:
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})


def _constants(path: Path) -> dict[str, Any]:
    """Return the constants of an ONNX file by their names, as OpenVINO reads them."""
    nodes = core().read_model(path).get_ordered_ops()
    return {node.friendly_name: node.data for node in nodes if node.get_type_name() == "Constant"}


def load(chosen: Choice) -> TorchFaceNetwork:
    """Return the network for the device that was chosen; in float16 where the other network runs in that."""
    return TorchFaceNetwork(torch.device(chosen.device), half=chosen.precision == "float16")
