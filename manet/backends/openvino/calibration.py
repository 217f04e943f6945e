"""Calibration: between which ends the activations of some weights lie, which int8 arithmetic must know beforehand.

It is a small file beside the weights, written by ``manet-train quantize``: a safetensors file with the two ends of each
place (``manet.backends.openvino.graph``), float32 (2,), under the place's name, and in its ``__metadata__``:

.. code-block:: text

    manet_calibration  "2", the version of this very list
    weights_sha256     SHA-256 of the file of weights that it was measured with
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from manet.errors import CheckpointError

FORMAT = "2"

LEVELS = 256
"""Values that a rounded activation can take."""


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        weights_sha256: of the file of weights; the calibration fits no others.
        ranges: the least and the largest value at each place, at most and at least 0, with 0 among the values that a
            rounded activation can take.
    """

    weights_sha256: str
    ranges: Mapping[str, tuple[float, float]]

    def save(self, path: Path) -> None:
        """Write it to a file."""
        metadata = {"manet_calibration": FORMAT, "weights_sha256": self.weights_sha256}
        save_file({place: np.array(ends, np.float32) for place, ends in self.ranges.items()}, path, metadata)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return what ``save`` wrote.

        Raises:
            CheckpointError: if the file is something else, or of an older version.
            OSError: if it cannot be read.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata: dict[str, str] = file.metadata() or {}
                if metadata.get("manet_calibration") != FORMAT:
                    raise CheckpointError(
                        f"{path}: expected an int8 calibration of version {FORMAT}, found an older one or "
                        "another file; `manet-train quantize` makes one"
                    )
                ends = {place: file.get_tensor(place) for place in file.keys()}  # noqa: SIM118 - it is no dict
            ranges = {place: (float(low), float(high)) for place, (low, high) in ends.items()}
            return cls(metadata["weights_sha256"], ranges)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: expected an int8 calibration, found something else ({error})") from error


def with_zero(low: float, high: float) -> tuple[float, float]:
    """Return a range widened to hold 0, and moved by less than a step so that 0 itself is among its values.

    Convolutions pad with 0: rounded to something else it would shift every value at the edge of a map.

    Args:
        low: the least value seen.
        high: the largest.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / (LEVELS - 1)
    if step == 0:
        return 0.0, 1.0  # nothing but zeros was seen
    below = round(-low / step)
    return -below * step, (LEVELS - 1 - below) * step
