"""Policy: when a batch starts, how large it grows, and how long an item that arrives now will wait.

Pure: standard library only, and the time is an argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import ClassVar


class SmoothedTime:
    """An exponentially weighted mean: it follows what it measures and forgives a single outlier.

    Attributes:
        value: the mean so far, at first the first sample.
    """

    WEIGHT: ClassVar[float] = 0.2
    """The newest sample's share."""

    def __init__(self, first: float) -> None:
        self.value = first

    def add(self, sample: float) -> None:
        """Take one more sample into the mean."""
        self.value += self.WEIGHT * (sample - self.value)


class BatchTimes:
    """How long a batch takes, smoothed, by bucket of size: 1, 2, 3-4, 5-8, and so on."""

    def __init__(self) -> None:
        self._buckets: dict[int, SmoothedTime] = {}
        self._expected: dict[int, float] = {}  # by size, since the last batch: every request asks several times

    def add(self, size: int, seconds: float) -> None:
        """Take the time of one batch of ``size`` items into account."""
        self._expected.clear()
        bucket = _bucket(size)
        if bucket in self._buckets:
            self._buckets[bucket].add(seconds)
        else:
            self._buckets[bucket] = SmoothedTime(seconds)

    def expect(self, size: int) -> float:
        """Return the seconds that a batch of ``size`` items should take; 0 before anything was measured.

        A batch takes no longer than any measured batch that is larger, nor than the same items in smaller batches.
        The least of these bounds is the answer, so one old outlier in a seldom used bucket cannot keep work away.
        """
        if (known := self._expected.get(size)) is not None:
            return known
        bounds = [mean.value * ceil(size / bucket) for bucket, mean in self._buckets.items()]
        expected = self._expected[size] = min(bounds, default=0.0)
        return expected

    def known(self) -> Mapping[int, float]:
        """Return the smoothed seconds by the largest size of each measured bucket."""
        return {bucket: mean.value for bucket, mean in self._buckets.items()}


def _bucket(size: int) -> int:
    return 1 << (size - 1).bit_length()


@dataclass(frozen=True, slots=True)
class RunningBatch:
    """The batch that the engine works on: its size and when it started."""

    size: int
    started: float


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """Work-conserving batching: an idle engine takes what is ready; while it works, the next batch grows.

    Attributes:
        max_batch_size: the most items in one batch, at least 1.
        window: seconds for which an idle engine waits for company after the first item; 0 starts at once.
    """

    max_batch_size: int
    window: float = 0.0

    def pause(self, size: int, oldest: float, now: float) -> float:
        """Return the seconds that an idle engine should still wait before it starts; 0 or less means now.

        Args:
            size: items in the batch that is ready.
            oldest: when the oldest of them was handed in.
            now: the present.
        """
        if size >= self.max_batch_size:
            return 0.0
        return oldest + self.window - now

    def expected_wait(self, times: BatchTimes, *, ahead: int, running: RunningBatch | None, now: float) -> float:
        """Return the seconds until the logits of an item that is handed in now should be there.

        Args:
            times: what batches have taken.
            ahead: items that will be served before it, the running batch left out.
            running: the batch in the engine, or None if it is idle.
            now: the present.
        """
        left = 0.0 if running is None else max(0.0, running.started + times.expect(running.size) - now)
        full, rest = divmod(ahead + 1, self.max_batch_size)
        last = times.expect(rest) if rest else 0.0
        return left + full * times.expect(self.max_batch_size) + last
