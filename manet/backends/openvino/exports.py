"""Exports: networks as OpenVINO has them, made from the weights' file once and kept in a cache on the disk.

PyTorch exports a network. A process that finds it in the cache never loads PyTorch, and writes nothing there: a machine
without PyTorch can serve from a read-only cache that ``manet export`` filled elsewhere.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import openvino
from filelock import FileLock
from platformdirs import user_cache_path

from manet.backends.openvino.calibration import Calibration, apply
from manet.errors import CheckpointError, ExportError
from manet.files import sha256_of
from manet.weights.entry import Weights
from manet.weights.registry import locate, locate_calibration

EXPORT = 2
"""The version of ``_export``; another one makes another entry of the cache."""

CACHE_VARIABLE = "MANET_CACHE_DIR"
"""Environment variable that names the folder of exported networks."""

_GRAPH, _NUMBERS, _SUMS = "network.xml", "network.bin", "sha256.json"
_LOCK = ".lock"


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
        if find_spec("torch") is None:
            raise ExportError(
                f"weights {weights.id!r} are not among the exported networks, and PyTorch, which would export them, is "
                "not installed: run `manet export --cache FOLDER` where it is, and serve with MANET_CACHE_DIR=FOLDER"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        # An export takes 20 seconds and 1 GB: of several processes that find none, one makes it.
        with FileLock(folder.parent / _LOCK):
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
    """Write the network to a folder that no one sees before it is whole."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export.") as scratch:
        part = Path(scratch) / "part"
        part.mkdir()
        openvino.save_model(network, part / _GRAPH, compress_to_fp16=False)
        sums = {name: sha256_of(part / name) for name in (_GRAPH, _NUMBERS)}
        (part / _SUMS).write_text(json.dumps(sums))
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)


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
    """
    # Imported late, so that a process which finds the network in the cache never loads PyTorch.
    import torch  # noqa: PLC0415

    from manet.nn.classifier import load_classifier  # noqa: PLC0415

    side = weights.preprocessing.input_size
    classifier = load_classifier(weights, store).eval()
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    with torch.inference_mode():
        program = torch.export.export(classifier, (example,), dynamic_shapes={"images": {0: torch.export.Dim.DYNAMIC}})
    return openvino.convert_model(program)
