"""Registry: the known weights by their ids, and where their files lie.

The shipped files are part of this package, the others lie in a folder of the user's, the store.
"""

import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from platformdirs import user_data_path

from manet.errors import CheckpointError, UnknownWeightsError, WeightsNotInstalledError
from manet.files import recorded_sha256, sha256_of, verify_sha256
from manet.weights.catalog import CATALOG, INTENDED_USE, LIMITS
from manet.weights.entry import Weights
from manet.weights.header import read_header

STORE_VARIABLE = "MANET_WEIGHTS_DIR"
"""Environment variable that names the store's folder."""

ASSETS = files("manet").joinpath("weights", "assets")
"""The folder of the files that ship with this package."""

INT8_SUFFIX = ".int8.safetensors"
"""What an int8 calibration's file name has in the place of the weights' own suffix."""


def names() -> tuple[str, ...]:
    """Return the ids of all known weights, the shipped ones first."""
    return tuple(CATALOG)


def get(id: str) -> Weights:
    """Return the weights of that id.

    Raises:
        UnknownWeightsError: if there are none; the message names the known ones.
    """
    try:
        return CATALOG[id]
    except KeyError:
        raise UnknownWeightsError(f"unknown weights {id!r}; known are {', '.join(names())}") from None


def described_by(path: Path) -> Weights:
    """Return the weights that a file holds, by what the file says of itself; the registry need not know them.

    That is how a user's own training run is evaluated and served.

    Raises:
        CheckpointError: if the file is none of ours, or does not say how it is to be used.
        FileNotFoundError: if there is no such file.
    """
    header = read_header(path)
    if header is None or header.use is None:
        raise CheckpointError(f"{path}: expected a header that says how the weights are to be used, found none")
    use = header.use
    return Weights(
        id=path.stem,
        dataset=use.dataset,
        classes=header.classes,
        wiring=header.wiring,
        fusion_weight=use.fusion_weight,
        temperature=use.temperature,
        preprocessing=use.preprocessing,
        crop=use.crop,
        shipped=False,
        file=str(path.absolute()),
        card=None,
        sha256=sha256_of(path),
        measured=(),
        published=(),
        licence="Not stated in the file.",
        provenance=header.provenance,
        intended_use=INTENDED_USE,
        limits=LIMITS,
    )


def read_card(weights: Weights) -> str | None:
    """Return the model card as Markdown, or None where no one wrote one."""
    if weights.card is None:
        return None
    return ASSETS.joinpath(weights.card).read_text(encoding="utf-8")


def resolve(name: str, store: Path | None = None) -> Weights:
    """Return the weights of an id, as this machine has them, or those of a ``.safetensors`` file.

    Raises:
        UnknownWeightsError: if it is neither an id nor a file's path.
        WeightsNotInstalledError: if the file of known weights is not on this machine.
        CheckpointError: if the file is not what it should be.
    """
    path = Path(name)
    if path.suffix == ".safetensors" and path.is_file():
        return described_by(path)
    return as_installed(get(name), store)


def default_store() -> Path:
    """Return the user's folder of weights: ``MANET_WEIGHTS_DIR`` where set, else the platform's place for such data."""
    chosen = os.environ.get(STORE_VARIABLE)
    return Path(chosen) if chosen else user_data_path("manet", appauthor=False) / "weights"


def locate(weights: Weights, store: Path | None = None) -> Path:
    """Return the path of the weights' file.

    Whatever is returned can be checked: a shipped file has its SHA-256 in the registry, an imported one beside it.

    Args:
        weights: an entry of the registry.
        store: the user's folder of weights; None means ``default_store()``. Shipped weights are not searched for there.

    Raises:
        WeightsNotInstalledError: if the file is not there, or there is nothing to check it against.
    """
    if weights.file is None:
        raise WeightsNotInstalledError(f"weights {weights.id!r} have no file")
    if weights.shipped:
        return _locate_shipped(weights, weights.file)
    if Path(weights.file).is_absolute() and weights.sha256 is not None:
        return Path(weights.file)
    path = (default_store() if store is None else store) / weights.file
    hint = f"import the authors' checkpoint with: manet weights import FILE --dataset {weights.id}"
    if not path.is_file():
        raise WeightsNotInstalledError(f"weights {weights.id!r} are not installed: expected {path}; {hint}")
    if recorded_sha256(path) is None:
        raise WeightsNotInstalledError(f"weights {weights.id!r} have no checksum beside {path}; {hint}")
    return path


def locate_calibration(weights: Weights, store: Path | None = None) -> Path | None:
    """Return the path of the weights' int8 calibration, or None where there is none.

    The shipped one is checked against the registry. Beside other weights a file counts that is called like theirs with
    ``INT8_SUFFIX``; ``manet-train quantize`` makes it.

    Raises:
        ChecksumError: if the shipped one is not what the registry says.
        WeightsNotInstalledError: if the weights themselves are not there.
    """
    path = locate(weights, store)
    if weights.int8 is not None:
        shipped = path.with_name(weights.int8.file)
        verify_sha256(shipped, weights.int8.sha256)
        return shipped
    own = path.with_suffix(INT8_SUFFIX)
    return own if own.is_file() else None


def as_installed(weights: Weights, store: Path | None = None) -> Weights:
    """Return the weights as the copy on this machine has them.

    What a user imports may come from either release of the authors' code, so its wiring and its checksum are facts
    of the copy, not of the registry. Shipped weights are returned as they are.

    Raises:
        WeightsNotInstalledError: if the file is not there, or there is nothing to check it against.
        CheckpointError: if the file holds other classes, or its header or its checksum cannot be read.
    """
    path = locate(weights, store)
    if weights.shipped:
        return weights
    header = read_header(path)
    if header is None:
        raise CheckpointError(f"{path}: expected a header that names classes and wiring, found none")
    if header.classes != weights.classes:
        raise CheckpointError(
            f"{path}: expected the classes {', '.join(weights.classes)}, found {', '.join(header.classes)}"
        )
    return replace(weights, wiring=header.wiring, sha256=recorded_sha256(path))


def _locate_shipped(weights: Weights, file: str) -> Path:
    path = Path(str(ASSETS)) / file
    if weights.sha256 is None:
        raise WeightsNotInstalledError(f"weights {weights.id!r} have no SHA-256 in the registry to check {path}")
    if not path.is_file():
        raise WeightsNotInstalledError(f"weights {weights.id!r} are missing from this installation: expected {path}")
    return path
