"""Sizes: the default weights, as they are and with their input forced to another size."""

from dataclasses import replace
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save_file

from manet.files import atomic_write
from manet.weights.header import Use, read_header
from manet.weights.registry import get, locate

DEFAULT = "ferplus"


def own_size() -> int:
    """Return the input size of the default weights, in pixels."""
    return get(DEFAULT).preprocessing.input_size


def weights_of(size: int, folder: Path) -> str:
    """Return what the service is to be given as weights, so that its input size is ``size``.

    That is their id, or a self-describing file in ``folder``, written where it is missing. The numbers are the same to
    the bit; only the header differs.
    """
    weights = get(DEFAULT)
    if size == own_size():
        return weights.id
    source = locate(weights)
    assert weights.sha256 is not None
    path = folder / f"{DEFAULT}_{size}_{weights.sha256[:12]}.safetensors"
    if path.exists():
        return str(path)
    header = read_header(source)
    assert header is not None, "the shipped file describes itself"
    use = Use(
        dataset=weights.dataset,
        preprocessing=replace(weights.preprocessing, input_size=size),
        crop=weights.crop,
        fusion_weight=weights.fusion_weight,
        temperature=weights.temperature,
    )
    metadata = replace(header, use=use).as_metadata()
    with safe_open(source, framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda part: save_file(tensors, part, metadata=metadata))
    return str(path)
