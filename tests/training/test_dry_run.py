"""A dry run says what a run will take, and leaves nothing behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from training.cli import app
from training.dry_run import bound, step_pace
from training.trainer import Trainer


def test_a_dry_run_speaks_of_counts_steps_memory_and_time(ferplus_tree: Path, tmp_path: Path) -> None:
    fields = ("epochs=3", "epoch_sizes=[32, 32, 48]", "input_size=48", "batch_size=6")
    schedule = "schedule.cycles=[{epochs=3, peak=0.05, warmup=0.2}]"
    changes = [word for field in (*fields, schedule) for word in ("--set", field)]
    before = sorted(tmp_path.rglob("*"))

    done = CliRunner().invoke(app, ["fit", "ferplus", "--data", str(ferplus_tree), *changes, "--dry-run"])

    assert done.exit_code == 0, done.output
    for words in (
        "12 training images (all votes",
        "6 valid images judge each epoch",
        "neutral 4, happiness 4, surprise 0, sadness 0, anger 4",
        "2 an epoch of 6 images, 6 in all",
        "at 32 px:",
        "2 epochs",
        "at 48 px:",
        "GB at most so far",
        "s of it waiting for images",
        "bound by: ",
        "the whole run: 0:0",
    ):
        assert words in done.output
    assert sorted(tmp_path.rglob("*")) == before


class _Epoch(Trainer):
    """A trainer whose readers need ``reading`` s for a batch each, after two batches each that are there already."""

    def __init__(self, readers: int, reading: float, computing: float, steps: int) -> None:
        self.readers, self.reading, self.computing, self.steps_per_epoch = readers, reading, computing, steps
        self.epoch, self.step, self.seconds_waited, self._now = 0, 0, 0.0, 0.0
        self.clock = lambda: self._now

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
    pace = step_pace(_Epoch(readers, reading=1.0 * readers, computing=0.1, steps=500), 0, readers)

    assert pace.step == pytest.approx(1.0, rel=0.2)  # as fast as the readers deliver, not as the network computes
    assert pace.waited == pytest.approx(0.9, rel=0.2)


def test_a_network_that_is_slower_than_its_readers_waits_for_nothing() -> None:
    pace = step_pace(_Epoch(2, reading=0.1, computing=1.0, steps=500), 0, 2)

    assert pace.step == pytest.approx(1.0)
    assert pace.waited == 0.0


def test_without_readers_a_few_steps_do_and_of_a_short_epoch_all() -> None:
    epoch = _Epoch(0, reading=0.3, computing=0.2, steps=500)
    pace = step_pace(epoch, 0, 0)
    assert pace.step == pytest.approx(0.5)
    assert pace.waited == pytest.approx(0.3)
    assert epoch.clock() == pytest.approx(1.5)
    assert step_pace(_Epoch(4, reading=8.0, computing=0.1, steps=10), 0, 4).step > 0.1
    assert step_pace(_Epoch(0, reading=0.3, computing=0.2, steps=1), 0, 0).step == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("seconds", "beside", "said"),
    [
        ((40.0, 100.0, 20.0), True, "readers (waiting for readers 33 %, network 50 %, evaluation 17 %)"),
        ((4.0, 100.0, 20.0), True, "network (waiting for readers 3 %, network 80 %, evaluation 17 %)"),
        ((40.0, 100.0, 20.0), False, "network (waiting for readers 33 %, network 50 %, evaluation 17 %)"),
        ((60.0, 100.0, 20.0), False, "readers (waiting for readers 50 %, network 33 %, evaluation 17 %)"),
        ((50.0, 100.0, 300.0), True, "evaluation (waiting for readers 12 %, network 12 %, evaluation 75 %)"),
    ],
)
def test_what_bounds_a_run_is_said(seconds: tuple[float, float, float], beside: bool, said: str) -> None:
    assert bound(*seconds, beside=beside) == said


def test_a_recipe_that_begins_from_another_says_so(ferplus_tree: Path) -> None:
    small = ["--set", "input_size=32", "--set", "batch_size=6", "--set", "epoch_sizes=[32]", "--set", "epochs=1"]
    schedule = ["--set", "schedule.cycles=[{epochs=1, peak=0.05, warmup=0.2}]"]
    command = ["fit", "ferplus", "--data", str(ferplus_tree), *small, *schedule, "--dry-run"]

    done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.output
    assert "begins from what the recipe ferplus_identity ends with" in done.output


def test_what_to_train_must_be_said() -> None:
    done = CliRunner().invoke(app, ["fit", "ferplus"])

    assert done.exit_code == 2
    assert "give a RECIPE with --data and --out" in done.output
