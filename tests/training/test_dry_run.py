"""A dry run says what a run will take, and leaves nothing behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from testing.weights import NARROW
from training.cli import app
from training.dry_run import bottleneck, measure_step_time
from training.trainer import Trainer


def test_a_dry_run_reports_counts_steps_memory_and_time(ferplus_tree: Path, tmp_path: Path) -> None:
    fields = ("epochs=3", "epoch_sizes=[32, 32, 48]", "input_size=48", "batch_size=6", f"width={NARROW}")
    schedule = "schedule.cycles=[{epochs=3, max_lr=0.05, warmup=0.2}]"
    changes = [word for field in (*fields, schedule) for word in ("--set", field)]
    before = sorted(tmp_path.rglob("*"))

    done = CliRunner().invoke(app, ["fit", "ferplus", "--data", str(ferplus_tree), *changes, "--dry-run"])

    assert done.exit_code == 0, done.output
    for words in (
        "12 training images (all votes",
        "6 valid images for evaluation",
        "neutral 4, happiness 4, surprise 0, sadness 0, anger 4",
        "2 per epoch, 6 in total, batches of 6 images",
        "at 32 px:",
        "2 epochs",
        "at 48 px:",
        "GB peak so far",
        "s of it waiting for images",
        "bottleneck: ",
        "total: 0:0",
    ):
        assert words in done.output
    assert sorted(tmp_path.rglob("*")) == before


class _Epoch(Trainer):
    """A trainer whose readers need ``reading`` s for a batch each, after two batches each that are there already."""

    def __init__(self, readers: int, reading: float, computing: float, steps: int) -> None:
        self.readers, self.reading, self.computing, self.steps_per_epoch = readers, reading, computing, steps
        self.epoch, self.step, self.seconds_waited, self._now = 0, 0, 0.0, 0.0
        self.clock, self.device = lambda: self._now, torch.device("cpu")

    @property
    def waited(self) -> float:
        return self.seconds_waited

    def steps(self) -> Iterator[Tensor]:
        # Each reader begins with its next batch when it has delivered one; two of its batches are there at first.
        ready = [0.0] * (2 * self.readers)
        for step in range(self.steps_per_epoch):
            if self.readers:
                wait = max(0.0, ready[step] - self._now)
                ready.append(max(ready[-self.readers], self._now + wait) + self.reading)
            else:
                wait = self.reading
            self._now += wait + self.computing
            self.seconds_waited += wait
            yield torch.ones(())


@pytest.mark.parametrize("readers", [1, 4, 16])
def test_steps_are_timed_past_what_was_read_ahead(readers: int) -> None:
    time = measure_step_time(_Epoch(readers, reading=1.0 * readers, computing=0.1, steps=500), 0, readers)

    assert time.step == pytest.approx(1.0, rel=0.2)  # as fast as the readers deliver, not as the network computes
    assert time.waited == pytest.approx(0.9, rel=0.2)


def test_a_network_that_is_slower_than_its_workers_never_waits() -> None:
    time = measure_step_time(_Epoch(2, reading=0.1, computing=1.0, steps=500), 0, 2)

    assert time.step == pytest.approx(1.0)
    assert time.waited == 0.0


def test_without_workers_a_few_steps_are_timed_and_of_a_short_epoch_all() -> None:
    epoch = _Epoch(0, reading=0.3, computing=0.2, steps=500)
    time = measure_step_time(epoch, 0, 0)
    assert time.step == pytest.approx(0.5)
    assert time.waited == pytest.approx(0.3)
    assert epoch.clock() == pytest.approx(1.5)
    assert measure_step_time(_Epoch(4, reading=8.0, computing=0.1, steps=10), 0, 4).step > 0.1
    assert measure_step_time(_Epoch(0, reading=0.3, computing=0.2, steps=1), 0, 0).step == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("seconds", "parallel", "expected"),
    [
        ((40.0, 100.0, 20.0), True, "data loading (waiting for images 33 %, network 50 %, evaluation 17 %)"),
        ((4.0, 100.0, 20.0), True, "network (waiting for images 3 %, network 80 %, evaluation 17 %)"),
        ((40.0, 100.0, 20.0), False, "network (waiting for images 33 %, network 50 %, evaluation 17 %)"),
        ((60.0, 100.0, 20.0), False, "data loading (waiting for images 50 %, network 33 %, evaluation 17 %)"),
        ((50.0, 100.0, 300.0), True, "evaluation (waiting for images 12 %, network 12 %, evaluation 75 %)"),
    ],
)
def test_the_bottleneck_of_a_run_is_reported(
    seconds: tuple[float, float, float], parallel: bool, expected: str
) -> None:
    assert bottleneck(*seconds, parallel=parallel) == expected


def test_a_recipe_that_starts_from_another_says_so(ferplus_tree: Path) -> None:
    small = ["--set", "input_size=32", "--set", "batch_size=6", "--set", "epoch_sizes=[32]", "--set", "epochs=1"]
    small += ["--set", f"width={NARROW}"]
    schedule = ["--set", "schedule.cycles=[{epochs=1, max_lr=0.05, warmup=0.2}]"]
    command = ["fit", "ferplus", "--data", str(ferplus_tree), *small, *schedule, "--dry-run"]

    done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.output
    assert "starts from the weights of the recipe ferplus_identity" in done.output


def test_what_to_train_must_be_given() -> None:
    done = CliRunner().invoke(app, ["fit", "ferplus"])

    assert done.exit_code == 2
    assert "give a RECIPE with --data and --out" in done.output
