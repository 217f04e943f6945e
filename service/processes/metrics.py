"""Metrics: counters and histograms that add up over all processes, those that have ended among them.

Each process has a table of series in the shared memory, which its successor goes on with. So sums never fall, and their
number is bounded however often a process is restarted.
"""

import logging
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from service.observability.metrics import Metrics
from service.processes.memory import KEY, SERIES, VALUES, SharedMemory

_log = logging.getLogger("manet.metrics")

_SEPARATOR = "\x1f"
_WIDEST = 32
"""Numbers of a series, at most. So many at a table's end belong to no series, and take what does not fit."""


class SeriesTable:
    """The series of one process, and the sums over those of all; safe in several threads.

    Args:
        memory: that of all processes.
        row: this process's own.
    """

    def __init__(self, memory: SharedMemory, row: int) -> None:
        self._memory = memory
        self._row = row
        self._values = memory.values[row]
        self._lock = threading.Lock()
        self._widths: dict[str, int] = {}
        self._known: list[list[tuple[str, tuple[str, ...], int]]] = [[] for _ in memory.values]  # name, labels, start
        self._own = {(name, labels): start for name, labels, start in self._read(row)}

    def declare(self, name: str, width: int) -> None:
        """Make a metric known, each of whose series has so many numbers."""
        self._widths[name] = width

    def place(self, name: str, labels: tuple[str, ...]) -> int:
        """Return where the numbers of a series of this process begin; a new one is all zero."""
        with self._lock:
            if (found := self._own.get((name, labels))) is None:
                found = self._own[name, labels] = self._new(name, labels)
            return found

    def add(self, place: int, amount: float) -> None:
        """Add to a number of this process."""
        with self._lock:
            self._values[place] += amount

    def observe(self, bucket: int, total: int, amount: float) -> None:
        """Count one in a bucket, and add it to a sum, both of this process."""
        with self._lock:
            self._values[bucket] += 1
            self._values[total] += amount

    def totals(self, name: str) -> dict[tuple[str, ...], list[float]]:
        """Return the numbers of a metric by labels, summed over all processes."""
        width = self._widths[name]
        totals: dict[tuple[str, ...], list[float]] = {}
        for row, values in enumerate(self._memory.values):
            for found, labels, start in self._read(row):
                if found == name:
                    total = totals.setdefault(labels, [0.0] * width)
                    total[:] = [a + b for a, b in zip(total, values[start : start + width], strict=True)]
        return totals

    def _new(self, name: str, labels: tuple[str, ...]) -> int:
        memory, row = self._memory, self._row
        key = _SEPARATOR.join((name, *labels)).encode()
        number = memory.used[row]
        start = 0 if not number else self._end(number - 1)
        if number == SERIES or start + self._widths[name] > VALUES - _WIDEST or len(key) > KEY:
            _log.error("no room for another series of %s; it is not counted", name)
            return VALUES - _WIDEST
        memory.keys[row, number], memory.starts[row, number] = key, start
        memory.used[row] = number + 1  # the last, so that no one reads half of it
        return start

    def _end(self, number: int) -> int:
        name = bytes(self._memory.keys[self._row, number]).decode().partition(_SEPARATOR)[0]
        return int(self._memory.starts[self._row, number]) + self._widths[name]

    def _read(self, row: int) -> Iterator[tuple[str, tuple[str, ...], int]]:
        """Yield the series of a process; each is read once, as it never changes."""
        known = self._known[row]
        for number in range(len(known), self._memory.used[row]):
            name, *labels = bytes(self._memory.keys[row, number]).decode().split(_SEPARATOR)
            known.append((name, tuple(labels), int(self._memory.starts[row, number])))
        yield from known


class _CounterSeries:
    def __init__(self, table: SeriesTable, start: int) -> None:
        self._table = table
        self._start = start

    def inc(self, amount: float = 1.0) -> None:
        self._table.add(self._start, amount)


class SharedCounter:
    """A counter, with the part of Prometheus's interface that is used here.

    Args:
        name: without ``_total``.
        documentation: one sentence.
        labelnames: of each series.
        registry: shows the sums.
        table: of this process.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        *,
        registry: CollectorRegistry,
        table: SeriesTable,
    ) -> None:
        self._name, self._documentation, self._labelnames = name, documentation, labelnames
        self._table = table
        self._children: dict[tuple[str, ...], _CounterSeries] = {}
        table.declare(name, 1)
        registry.register(self)
        if not labelnames:
            self.labels()

    def labels(self, *values: str) -> _CounterSeries:
        """Return the series with these labels."""
        if (child := self._children.get(values)) is None:
            child = self._children[values] = _CounterSeries(self._table, self._table.place(self._name, values))
        return child

    def inc(self, amount: float = 1.0) -> None:
        """Count, where there are no labels."""
        self.labels().inc(amount)

    def collect(self) -> Iterator[Metric]:
        """Yield the sums over all processes."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for labels, (total,) in sorted(self._table.totals(self._name).items()):
            family.add_metric(labels, total)
        yield family


class _HistogramSeries:
    def __init__(self, table: SeriesTable, start: int, bounds: Sequence[float]) -> None:
        self._table = table
        self._start = start
        self._bounds = bounds
        self._total = start + len(bounds) + 1

    def observe(self, amount: float) -> None:
        self._table.observe(self._start + bisect_left(self._bounds, amount), self._total, amount)


class SharedHistogram:
    """A histogram, with the part of Prometheus's interface that is used here.

    Args:
        name: of the metric.
        documentation: one sentence.
        labelnames: of each series.
        buckets: upper bounds, rising, without infinity.
        registry: shows the sums.
        table: of this process.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
        table: SeriesTable,
    ) -> None:
        self._name, self._documentation, self._labelnames = name, documentation, labelnames
        self._bounds = tuple(map(float, buckets))
        self._table = table
        self._children: dict[tuple[str, ...], _HistogramSeries] = {}
        table.declare(name, len(self._bounds) + 2)
        registry.register(self)
        if not labelnames:
            self.labels()

    def labels(self, *values: str) -> _HistogramSeries:
        """Return the series with these labels."""
        if (child := self._children.get(values)) is None:
            start = self._table.place(self._name, values)
            child = self._children[values] = _HistogramSeries(self._table, start, self._bounds)
        return child

    def observe(self, amount: float) -> None:
        """Take a value in, where there are no labels."""
        self.labels().observe(amount)

    def collect(self) -> Iterator[Metric]:
        """Yield the sums over all processes."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, (*counts, total) in sorted(self._table.totals(self._name).items()):
            family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        yield family


def shared_metrics(memory: SharedMemory, row: int) -> Metrics:
    """Return the metrics of a process, whose registry shows the whole service's.

    Args:
        memory: that of all processes.
        row: this process's own, the number of a front end, or after these that of the engine's process.
    """
    table = SeriesTable(memory, row)
    return Metrics(partial(SharedCounter, table=table), partial(SharedHistogram, table=table))
