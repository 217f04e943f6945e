"""The policy: when a batch starts, and how long an item will wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.policy import BatchPolicy, BatchTimes, RunningBatch, SmoothedTime

SIZES = st.integers(1, 64)


def _times(**seconds: float) -> BatchTimes:
    times = BatchTimes()
    for size, took in seconds.items():
        times.add(int(size.removeprefix("of_")), took)
    return times


def test_without_a_window_an_idle_engine_starts_at_once() -> None:
    assert BatchPolicy(8).pause(1, oldest=10.0, now=10.0) <= 0


def test_a_window_counts_from_the_oldest_item() -> None:
    policy = BatchPolicy(8, window=0.5)

    assert policy.pause(1, oldest=10.0, now=10.0) == 0.5
    assert policy.pause(7, oldest=10.0, now=10.25) == 0.25
    assert policy.pause(7, oldest=10.0, now=10.5) <= 0


@pytest.mark.parametrize("size", [8, 9])
def test_a_full_batch_waits_for_no_one(size: int) -> None:
    assert BatchPolicy(8, window=0.5).pause(size, oldest=10.0, now=10.0) <= 0


def test_the_mean_starts_at_the_first_sample_and_takes_a_fifth_of_each_new_one() -> None:
    mean = SmoothedTime(1.0)
    assert mean.value == 1.0

    mean.add(2.0)
    assert mean.value == pytest.approx(1.2)
    mean.add(0.0)
    assert mean.value == pytest.approx(0.96)


def test_sizes_share_a_bucket_up_to_the_next_power_of_two() -> None:
    times = BatchTimes()
    for size in range(1, 17):
        times.add(size, float(size))

    known = times.known()

    assert sorted(known) == [1, 2, 4, 8, 16]
    assert (known[1], known[2]) == (1.0, 2.0)
    assert known[4] == pytest.approx(3 + 0.2 * (4 - 3))


def test_before_anything_was_measured_nothing_takes_time() -> None:
    assert BatchTimes().expect(8) == 0.0
    assert BatchTimes().known() == {}


def test_a_measured_size_is_expected_to_take_what_it_took() -> None:
    times = _times(of_1=1.0, of_4=3.0, of_8=5.0)

    assert [times.expect(size) for size in (1, 4, 8)] == [1.0, 3.0, 5.0]


def test_a_size_never_measured_is_bounded_from_both_sides() -> None:
    times = _times(of_1=1.0, of_8=5.0)

    assert times.expect(2) == 2.0, "two single ones"
    assert times.expect(7) == 5.0, "no longer than a larger batch"
    assert times.expect(16) == 10.0, "two of eight"
    assert times.expect(9) == 9.0, "nine single ones, cheaper than two of eight"


def test_an_outlier_in_one_bucket_cannot_keep_work_away() -> None:
    assert _times(of_1=60.0, of_8=2.0).expect(1) == 2.0


@given(samples=st.lists(st.tuples(SIZES, st.floats(0.001, 10)), min_size=1, max_size=8), size=SIZES, more=SIZES)
def test_a_larger_batch_is_never_expected_sooner(samples: list[tuple[int, float]], size: int, more: int) -> None:
    times = BatchTimes()
    for sample in samples:
        times.add(*sample)

    assert 0 < times.expect(size) <= times.expect(size + more)


TIMES = {"of_1": 1.0, "of_2": 1.5, "of_4": 2.0}


@pytest.mark.parametrize(
    ("ahead", "wait"),
    [
        pytest.param(0, 1.0, id="alone"),
        pytest.param(1, 1.5, id="with one other"),
        pytest.param(3, 2.0, id="last place of the batch"),
        pytest.param(4, 3.0, id="first of the next batch"),
        pytest.param(8, 5.0, id="behind two full batches"),
        pytest.param(11, 6.0, id="last place of the third batch"),
    ],
)
def test_an_item_waits_for_the_batches_before_it_and_its_own(ahead: int, wait: float) -> None:
    assert BatchPolicy(4).expected_wait(_times(**TIMES), ahead=ahead, running=None, now=50.0) == wait


@pytest.mark.parametrize(
    ("elapsed", "left"),
    [(0.0, 2.0), (0.5, 1.5), pytest.param(9.0, 0.0, id="overdue")],
)
def test_the_running_batch_counts_for_what_is_left_of_it(elapsed: float, left: float) -> None:
    running = RunningBatch(size=4, started=50.0)

    wait = BatchPolicy(4).expected_wait(_times(**TIMES), ahead=0, running=running, now=50.0 + elapsed)

    assert wait == left + 1.0
