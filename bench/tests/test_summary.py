"""The figures of a run are what its samples say."""

import numpy as np
import pytest

from bench.load import Samples
from bench.summary import quantiles, ratio, raw, summary

SAMPLES = Samples(
    intended=[0.0, 2.0, 4.0, 9.0, 9.5],
    sent=[0.0, 2.5, 4.0, 9.0, 9.5],
    answered=[0.5, 3.0, 4.01, 11.0, 12.0],
    status=[200, 200, 429, 200, 0],
    seconds=10.0,
    cpu_seconds=0.25,
)


def test_latency_counts_from_the_intended_time_and_only_the_answered() -> None:
    found = summary(SAMPLES)

    assert found["latency_ms"]["max"] == 2000
    assert found["latency_ms"]["p50"] == 1000
    assert found["refused_ms"]["max"] == 10
    assert found["late_ms"]["max"] == 500
    assert found["statuses"] == {"0": 1, "200": 3, "429": 1}


def _in_batches(rate: float, batch: int, seconds: float, status: int = 200) -> Samples:
    answered = np.repeat(np.arange(batch / rate, seconds, batch / rate), batch).tolist()
    return Samples(answered, answered, answered, [status] * len(answered), seconds)


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("rate", [97, 100, 103])
def test_throughput_does_not_depend_on_when_the_last_batch_came(rate: float, batch: int) -> None:
    assert summary(_in_batches(rate, batch, 10))["answered"] == pytest.approx(rate, rel=0.01)


def test_throughput_counts_neither_refusals_nor_what_came_while_it_settled_or_afterwards() -> None:
    assert summary(_in_batches(100, 1, 10, status=429))["answered"] == 0
    early_and_late = Samples([0.0] * 50, [0.0] * 50, [0.5] * 25 + [10.5] * 25, [200] * 50, 10.0)
    assert summary(early_and_late)["answered"] == 0
    assert summary(SAMPLES)["offered"] == 0.5


def test_quantiles_of_known_numbers() -> None:
    assert quantiles(np.arange(101) / 1000) == {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    assert quantiles(np.array([])) is None


def test_ratios() -> None:
    assert ratio(30, 20) == 1.5
    assert ratio(30, 0) is None


def test_samples_can_be_read_back() -> None:
    kept = raw(SAMPLES)

    assert np.cumsum(kept["gaps"]).tolist() == [0, 20_000, 40_000, 90_000, 95_000]
    assert kept["late"] == [0, 5000, 0, 0, 0]
    assert kept["latency"] == [5000, 10_000, 100, 20_000, 25_000]
    assert kept["statuses"] == [[200, 2], [429, 1], [200, 1], [0, 1]]


def test_very_many_samples_become_a_histogram_that_holds_each_success() -> None:
    kept = raw(SAMPLES, most=4)

    assert sum(kept["counts"]) == 3
    counted = np.flatnonzero(kept["counts"])
    edges = kept["histogram_edges"]
    assert edges[counted[0]] <= 5000 <= edges[counted[0] + 1]


@pytest.mark.parametrize("seconds", [0.00001, 0.5, 90.0])
def test_the_histogram_covers_all_latencies_that_a_run_can_have(seconds: float) -> None:
    samples = Samples([0.0], [0.0], [seconds], [200], 1.0)
    assert sum(raw(samples, most=0)["counts"]) == 1
