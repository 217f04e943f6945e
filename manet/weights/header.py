"""The header of a weights file: what the file says of itself.

It is the ``__metadata__`` of a safetensors file, text to text, and readable without loading a tensor:

.. code-block:: text

    manet_format   "1", the version of this very list
    storage        "float32", or "int8": see manet.weights.int8_storage
    classes        the expressions' names in the order of the outputs, as a JSON list
    wiring         "bidirectional" or "unidirectional"
    provenance     where the numbers come from, in words
    source_sha256  SHA-256 of the file they were converted from, where there was one
    use            how images become inputs and outputs answers, as JSON, where that is known

A file without ``manet_format`` is what any other tool writes: float32 tensors, and no word about the rest.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open

from manet.errors import CheckpointError
from manet.files import recorded_sha256, refuse_html_page, verify_sha256
from manet.labels import Expression
from manet.nn.wiring import Wiring
from manet.vision.faces import FaceCrop
from manet.vision.preprocess import Preprocessing

FORMAT = "1"

Storage = Literal["float32", "int8"]
"""How convolution and linear weights lie in a file; everything else is stored as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How the network is to be used: from an image to its input, from its outputs to an answer.

    Attributes:
        dataset: what it was trained on, by its name in ``CLASS_ORDERS``.
        preprocessing: how a face crop becomes network input.
        crop: how a detected face is cut; None where no one measured it.
        fusion_weight: the local branch's share in the fused logits, 0..1.
        temperature: what the fused logits are divided by before softmax, above 0.
    """

    dataset: str
    preprocessing: Preprocessing
    crop: FaceCrop | None
    fusion_weight: float
    temperature: float


_USE = TypeAdapter(Use)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a weights file says of itself.

    Attributes:
        classes: what the outputs mean, in their order; its length is the class count.
        wiring: the wiring that the numbers were trained with.
        provenance: where the numbers come from, in words.
        source_sha256: of the file they were converted from; None where there was none.
        storage: how convolution and linear weights are stored.
        use: how the network is to be used; None where the file leaves that to the registry.
    """

    classes: tuple[Expression, ...]
    wiring: Wiring
    provenance: str
    source_sha256: str | None = None
    storage: Storage = "float32"
    use: Use | None = None

    def as_metadata(self) -> dict[str, str]:
        """Return the header as safetensors wants it."""
        metadata = {
            "manet_format": FORMAT,
            "storage": self.storage,
            "classes": json.dumps(self.classes),
            "wiring": self.wiring,
            "provenance": self.provenance,
        }
        if self.source_sha256 is not None:
            metadata["source_sha256"] = self.source_sha256
        if self.use is not None:
            metadata["use"] = _USE.dump_json(self.use).decode()
        return metadata


def read_header(path: Path) -> Header | None:
    """Return a weights file's header, or None for a safetensors file that another tool wrote.

    Raises:
        CheckpointError: if the file is no safetensors file, or its header is of another version or broken.
        FileNotFoundError: if there is no such file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except SafetensorError as error:
        refuse_html_page(path, "a safetensors file")
        raise CheckpointError(f"{path}: expected a safetensors file, found something else ({error})") from error
    version = metadata.get("manet_format")
    if version is None:
        return None
    if version != FORMAT:
        raise CheckpointError(f"{path}: expected manet_format {FORMAT}, found {version}, a newer one")
    try:
        return _parse(metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the header is broken ({type(error).__name__}: {error})") from error


def verified_storage(path: Path, *, wiring: Wiring, sha256: str | None) -> Storage:
    """Return how a file stores its weights, once it is known to be the one that is meant.

    Args:
        path: the file; one without a header is taken as float32.
        wiring: what a header must say.
        sha256: what the file must have; None takes the checksum written down beside it, and none where there is none.

    Raises:
        ChecksumError: if the file's SHA-256 is another.
        CheckpointError: if there is no such file, it is no safetensors file, or its header is broken or says another
            wiring.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a file, found none")
    expected = recorded_sha256(path) if sha256 is None else sha256
    if expected is not None:
        verify_sha256(path, expected)
    header = read_header(path)
    if header is not None and header.wiring != wiring:
        raise CheckpointError(f"{path}: expected wiring {wiring}, found {header.wiring}")
    return "float32" if header is None else header.storage


def _parse(metadata: dict[str, str]) -> Header:
    return Header(
        classes=tuple(Expression(name) for name in json.loads(metadata["classes"])),
        wiring=_one_of(get_args(Wiring), metadata["wiring"]),
        provenance=metadata["provenance"],
        source_sha256=metadata.get("source_sha256"),
        storage=_one_of(get_args(Storage), metadata["storage"]),
        use=_USE.validate_json(metadata["use"]) if "use" in metadata else None,
    )


def _one_of(choices: tuple[Any, ...], value: str) -> Any:
    if value not in choices:
        raise ValueError(f"expected one of {', '.join(choices)}, found {value!r}")
    return value
