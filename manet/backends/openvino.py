"""OpenVINOBackend: the network in OpenVINO, on a CPU.

The network is exported from the weights' file once, by PyTorch, and kept in a cache on the disk. A process that finds
it there never loads PyTorch, and writes nothing there: a machine without PyTorch can serve from a read-only cache that
``manet export`` filled elsewhere.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import openvino
from platformdirs import user_cache_path

from manet.backends import Logits
from manet.backends.choice import Choice, Precision
from manet.backends.core import core
from manet.backends.engine import Engine
from manet.backends.int8 import Calibration, apply
from manet.errors import CheckpointError, ExportError
from manet.files import sha256_of
from manet.preprocess import Pixels
from manet.weights import Weights, locate, locate_calibration

EXPORT = 2
"""The version of ``_export``; another one makes another entry of the cache."""

CACHE_VARIABLE = "MANET_CACHE_DIR"
"""Environment variable that names the folder of exported networks."""

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""The batch sizes that OpenVINO is given; a batch in between is filled up with blanks, a larger one is cut.

For each size that it meets it compiles the network anew, which takes 50 to 100 ms, and keeps 15 MB for ever (seen with
2026.4 at 80 px): with every size up to 32 that made stalls of a quarter of a second and 750 MB.
"""

_GRAPH, _NUMBERS, _SUMS = "network.xml", "network.bin", "sha256.json"
_HINTS = {"float32": "f32", "bf16": "bf16", "int8": "f32"}
"""What OpenVINO calls the number formats; in an int8 network it is the format of what was not rounded."""


class OpenVINOBackend(Engine[openvino.InferRequest]):
    """OpenVINO as an engine; see ``manet.backends.Backend``.

    Args:
        network: compiled, from uint8 (N, S, S, 3) to float32 (N, classes).
        side: S.
        precision: the number format that it was compiled for.
        reason: why this one was chosen.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, network: openvino.CompiledModel, *, side: int, precision: Precision, reason: str) -> None:
        super().__init__(network.create_infer_request(), side=side, precision=precision, reason=reason)
        self._filled: Pixels = np.zeros((SIZES[-1], side, side, 3), dtype=np.uint8)

    def _warmed(self, batch_sizes: Sequence[int]) -> Iterable[int]:
        largest = padded(min(max(batch_sizes), SIZES[-1]))
        return sorted({*batch_sizes, *(size for size in SIZES if size <= largest)})

    def _logits(self, network: openvino.InferRequest, images: Pixels) -> Logits:
        most = SIZES[-1]
        return np.concatenate([self._run(network, images[k : k + most]) for k in range(0, len(images), most)])

    def _run(self, request: openvino.InferRequest, images: Pixels) -> Logits:
        count = len(images)
        if (size := padded(count)) > count:
            self._filled[:count] = images
            images = self._filled[:size]  # beyond the count lies what earlier batches left; nobody reads its logits
        [logits] = request.infer([images]).values()
        answer: Logits = np.array(logits[:count])  # the request keeps its own array for the next batch
        return answer


def padded(count: int) -> int:
    """Return the size in which a batch of 1 to 32 runs: the least of ``SIZES`` that holds it."""
    return next(size for size in SIZES if size >= count)


def load(
    weights: Weights, chosen: Choice, *, threads: int | None, store: Path | None, cache: Path | None
) -> OpenVINOBackend:
    """Return the engine for these weights; see ``manet.backends.load_backend``."""
    graph = exported(weights, store, cache, int8=chosen.precision == "int8")
    config = {"INFERENCE_PRECISION_HINT": _HINTS[chosen.precision], "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = str(threads)
    compiled = core().compile_model(core().read_model(graph), "CPU", config)
    side = weights.preprocessing.input_size
    return OpenVINOBackend(compiled, side=side, precision=chosen.precision, reason=chosen.reason)


def default_cache() -> Path:
    """Return the folder of exported networks: ``MANET_CACHE_DIR`` where set, else the platform's place for a cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else user_cache_path("manet", appauthor=False)


def exported(weights: Weights, store: Path | None, cache: Path | None, *, int8: bool) -> Path:
    """Return the exported network's graph, from the cache where it lies there whole; else it is written there.

    One export serves float32 and bf16, since OpenVINO converts it when it compiles; int8 has one of its own.

    Args:
        weights: an entry of the registry.
        store: folder of weights that the user imported; None means the default one.
        cache: folder of exported networks; None means ``default_cache()``.
        int8: whether its weights and activations are to be rounded, by the weights' calibration.

    Raises:
        WeightsNotInstalledError: if the weights' file is not on this machine.
        CheckpointError: if a file is not what the registry says, or the calibration is missing or fits another network.
        ExportError: if it is not in the cache and PyTorch, which would export it, is not installed.
        OSError: if it is not in the cache and the cache cannot be written.
    """
    calibration = locate_calibration(weights, store) if int8 else None
    if int8 and calibration is None:
        raise CheckpointError(f"weights {weights.id!r} have no int8 calibration; manet-train calibrate makes one")
    key = _key(weights, locate(weights, store), calibration)
    folder = (default_cache() if cache is None else cache) / key
    if not _is_whole(folder):
        _write(_export(weights, store, calibration), folder)
    return folder / _GRAPH


def _key(weights: Weights, path: Path, calibration: Path | None) -> str:
    """Return the name of the network in the cache: a hash of all that it depends on."""
    content = {
        "weights": sha256_of(path),
        "calibration": None if calibration is None else sha256_of(calibration),
        "preprocessing": asdict(weights.preprocessing),
        "wiring": weights.wiring,
        "fusion_weight": weights.fusion_weight,
        "openvino": openvino.__version__,
        "export": EXPORT,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_whole(folder: Path) -> bool:
    try:
        sums = json.loads((folder / _SUMS).read_text())
        return all(sha256_of(folder / name) == sums[name] for name in (_GRAPH, _NUMBERS))
    except (OSError, ValueError, KeyError):
        return False


def _write(network: openvino.Model, folder: Path) -> None:
    """Write the network to a folder that nobody sees before it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export.") as scratch:
        part = Path(scratch) / "part"
        part.mkdir()
        openvino.save_model(network, part / _GRAPH, compress_to_fp16=False)
        sums = {name: sha256_of(part / name) for name in (_GRAPH, _NUMBERS)}
        (part / _SUMS).write_text(json.dumps(sums))
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder)
        try:
            os.rename(part, folder)
        except OSError:
            if not _is_whole(folder):  # or else another process was faster
                raise


def _export(weights: Weights, store: Path | None, calibration: Path | None) -> openvino.Model:
    network = converted(weights, store)
    if calibration is not None:
        apply(network, Calibration.load(calibration))
    return network


def converted(weights: Weights, store: Path | None) -> openvino.Model:
    """Return the network as OpenVINO has it, float32, from uint8 (N, S, S, 3) to fused logits (N, classes).

    Raises:
        WeightsNotInstalledError: if the weights' file is not on this machine.
        CheckpointError: if the file is not what the registry says.
        ExportError: if PyTorch is not installed.
    """
    # Imported late, so that a process which finds the network in the cache never loads PyTorch.
    try:
        import torch  # noqa: PLC0415

        from manet.backends.torch import load_classifier  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ExportError(
            f"weights {weights.id!r} are not among the exported networks, and PyTorch, which would export them, is not "
            "installed: run `manet export --cache FOLDER` where it is, and serve with MANET_CACHE_DIR=FOLDER"
        ) from None

    side = weights.preprocessing.input_size
    classifier = load_classifier(weights, store).eval()
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    with torch.inference_mode():
        program = torch.export.export(classifier, (example,), dynamic_shapes={"images": {0: torch.export.Dim.DYNAMIC}})
    return openvino.convert_model(program)
