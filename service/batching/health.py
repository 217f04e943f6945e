"""Health: whether the engine can be trusted, judged by the batches that it completed.

Pure: standard library only, and the time is an argument.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True)
class EngineHealth:
    """The engine's heartbeat: the last batch that came back, and the failures since.

    Attributes:
        interval: an engine that has been quiet for so many seconds is sent a blank batch.
        timeout: an engine from which nothing came back for so many seconds is taken to hang.
    """

    FAILURES_TO_SUSPECT: ClassVar[int] = 2
    """One failure may be the item's fault; two in succession may be the engine's."""

    interval: float = 5.0
    timeout: float = 30.0
    _last_beat: float | None = None
    _last_try: float | None = None
    _failures: int = 0
    _fault: str | None = None

    @property
    def broken(self) -> bool:
        """Whether the engine was marked_unhealthy, and has not answered since."""
        return self._fault is not None

    @property
    def alive_until(self) -> float:
        """Until when an engine that is not known to be broken is taken to be alive, unless it answers before."""
        return float("-inf") if self._last_beat is None else self._last_beat + self.timeout

    @property
    def reason(self) -> str:
        """What is wrong with an engine that is not alive, as one sentence without a full stop."""
        return self._fault or "the network does not answer"

    @property
    def suspect(self) -> bool:
        """Whether it failed so often in succession that a blank batch should decide who is at fault."""
        return self._failures >= self.FAILURES_TO_SUSPECT

    def succeeded(self, now: float) -> None:
        """Note that a batch came back."""
        self._last_beat = self._last_try = now
        self._failures = 0
        self._fault = None

    def failed(self, now: float) -> None:
        """Note that a batch failed."""
        self._last_try = now
        self._failures += 1

    def mark_unhealthy(self, reason: str) -> None:
        """Note that the fault is the engine's, and which."""
        self._fault = reason

    def until_probe(self, now: float) -> float:
        """Return the seconds until a quiet engine should be sent a blank batch; 0 or less means now."""
        return 0.0 if self._last_try is None else self._last_try + self.interval - now

    def alive(self, now: float) -> bool:
        """Return whether the engine has answered lately and is not known to be broken."""
        return self._fault is None and now <= self.alive_until
