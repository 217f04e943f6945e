"""Stop: whether long work was asked to end; such work looks at it between two pieces and leaves whole files."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit status of work that was asked to end, as shells give it to SIGINT."""


class Stop:
    """Whether the work was asked to end; set by SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Turn both signals into ``asked`` while inside, and put the old handlers back after."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        old = {number: signal.signal(number, self._ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
