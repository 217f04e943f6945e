"""A run that has only minutes: its recipe keeps its shape, and it ends in time."""

import pytest

from training import recipe as recipes
from training.recipe import Cycles, Recipe, Step
from training.time_limit import USABLE_SHARE, EpochCosts, fit_to_limit, shorten

COSTS = EpochCosts({64: 100.0, 80: 160.0}, between=10.0)


def _two_cycles() -> Recipe:
    cycles = "schedule.cycles=[{epochs=8, max_lr=0.1, warmup=0.1}, {epochs=52, max_lr=0.05, warmup=0.1}]"
    return recipes.load("ferplus", [cycles])


@pytest.mark.parametrize("epochs", [2, 3, 7, 20, 59, 60])
def test_sizes_and_cycles_keep_their_shares(epochs: int) -> None:
    recipe = _two_cycles()

    found = shorten(recipe, epochs)

    assert found.epochs == epochs
    assert found.epoch_sizes is not None
    assert list(found.epoch_sizes) == sorted(found.epoch_sizes)
    assert found.epoch_sizes[-1] == recipe.input_size
    assert abs(found.epoch_sizes.count(64) - epochs * 36 / 60) <= 1
    assert isinstance(found.schedule, Cycles)
    first, second = (cycle.epochs for cycle in found.schedule.cycles)
    assert abs(first - epochs * 8 / 60) <= 1
    assert first + second == epochs


def test_steps_of_the_paper_s_schedule_come_sooner() -> None:
    recipe = recipes.load("raf_db")

    found = shorten(recipe, 20)

    assert found.schedule == Step(kind="step", lr=0.01, step_size=3, gamma=0.1)


@pytest.mark.parametrize("seconds", [300, 1000, 3000])
def test_as_many_epochs_as_fit(seconds: float) -> None:
    recipe = recipes.load("ferplus")

    found = fit_to_limit(recipe, COSTS, seconds)

    assert COSTS.total(found) <= USABLE_SHARE * seconds
    assert COSTS.total(shorten(recipe, found.epochs + 1)) > USABLE_SHARE * seconds


def test_a_limit_that_is_no_limit_changes_nothing_and_the_least_is_an_epoch_a_cycle() -> None:
    recipe = _two_cycles()

    assert fit_to_limit(recipe, COSTS, 1e6) == recipe
    assert fit_to_limit(recipe, COSTS, 1).epochs == 2
