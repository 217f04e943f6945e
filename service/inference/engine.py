"""NetworkEngine: a recognizer's network as the scheduler's engine."""

from collections.abc import Sequence

import numpy as np

from manet.backends import Backend, Logits
from manet.preprocess import Pixels


class NetworkEngine:
    """A backend whose answers are checked, so that a batch which comes back wrong is a batch that failed.

    Args:
        backend: the network.
        classes: how many logits a face gets.
    """

    def __init__(self, backend: Backend, classes: int) -> None:
        self._backend = backend
        self._classes = classes

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        """Run one blank batch of each size."""
        self._backend.warmup(batch_sizes)

    def infer(self, images: Pixels) -> Logits:
        """Return the logits, (N, classes), of a batch, (N, S, S, 3).

        Raises:
            ValueError: if the backend answers with another shape, or with a number that is not finite.
        """
        logits = self._backend.infer(images)
        expected = (len(images), self._classes)
        if logits.shape != expected:
            raise ValueError(f"the backend answered with logits of shape {logits.shape} instead of {expected}")
        if not np.isfinite(logits).all():
            raise ValueError("the backend answered with logits that are not finite")
        return logits

    def close(self) -> None:
        """Let go of the network."""
        self._backend.close()
