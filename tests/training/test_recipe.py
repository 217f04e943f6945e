"""Recipes: data with every field known, and what follows from them."""

import pytest
from pydantic import ValidationError

from training import recipe as recipes
from training.recipe import Cycle, Cycles, Recipe, Step
from training.schedule import learning_rate


def test_the_ferplus_recipe() -> None:
    recipe = recipes.load("ferplus")

    assert recipe.dataset == "ferplus"
    assert recipe.labels == "distribution"
    assert recipe.wiring == "bidirectional"
    assert recipe.fusion_weight == 0.6
    assert recipe.preprocessing().input_size == 64
    assert recipe.preprocessing(0).input_size == 48
    assert recipe.preprocessing(recipe.epochs - 1) == recipe.preprocessing()
    assert 23506 // recipe.batch_size == 367


def test_the_second_stage_of_ferplus() -> None:
    recipe = recipes.load("ferplus_refine")

    assert (recipe.dataset, recipe.labels, recipe.input_size) == ("ferplus", "distribution", 80)
    assert recipe.class_balance == 0.5
    assert recipes.load("ferplus").class_balance == 0.0
    assert 23506 // recipe.batch_size * recipe.epochs == 8808


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="ferplus"):
        recipes.load("fer++")


def test_an_unknown_key_is_an_error() -> None:
    fields = recipes.load("ferplus").model_dump()

    with pytest.raises(ValidationError, match="learning_rat"):
        Recipe.model_validate({**fields, "learning_rat": 0.1})


def test_sizes_must_cover_every_epoch() -> None:
    fields = recipes.load("ferplus").model_dump()

    with pytest.raises(ValidationError, match="2 entries"):
        Recipe.model_validate({**fields, "epoch_sizes": [48, 64]})


def test_cycles_must_fill_the_run() -> None:
    fields = recipes.load("ferplus").model_dump()

    with pytest.raises(ValidationError, match="cycles last 17 epochs, the run 18"):
        Recipe.model_validate({**fields, "epochs": 18, "epoch_sizes": None})


def test_a_cycle_rises_then_falls_to_nothing_and_the_next_begins_anew() -> None:
    first, second = Cycle(epochs=2, peak=0.1, warmup=0.2), Cycle(epochs=1, peak=0.04, warmup=0.1)
    schedule = Cycles(kind="cycles", cycles=(first, second))
    rates = [learning_rate(schedule, step, steps_per_epoch=50) for step in range(150)]

    assert rates[0] == pytest.approx(0.1 / 20)
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) in (19, 20)
    assert rates[60] == pytest.approx(0.05)
    assert rates[99] < 1e-4
    assert rates[100] == pytest.approx(0.04 / 5)
    assert max(rates[100:]) == pytest.approx(0.04)
    assert rates[-1] < 1e-4
    with pytest.raises(ValueError, match="ended"):
        learning_rate(schedule, 150, steps_per_epoch=50)


def test_step_schedule_is_the_papers() -> None:
    schedule = Step(kind="step", rate=0.01, every=15, gamma=0.1)
    rates = [learning_rate(schedule, epoch * 96, steps_per_epoch=96) for epoch in (0, 14, 15, 30)]

    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.0001])
