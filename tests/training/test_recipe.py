"""Recipes: data with every field known, and what follows from them."""

from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import ValidationError

from training import recipe as recipes
from training.recipe import Augmentation, Cycle, Cycles, Recipe, RecipeError, Step
from training.schedule import learning_rate


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(files("training").joinpath("recipes/ferplus.toml").read_text(), encoding="utf-8-sig")

    assert recipes.load(str(own)) == recipes.load("ferplus")


def test_the_recipe_of_the_default_weights() -> None:
    recipe = recipes.load("ferplus")

    assert (recipe.dataset, recipe.labels, recipe.init) == ("ferplus", "all_votes", "ferplus_identity")
    assert (recipe.wiring, recipe.fusion_weight, recipe.class_balance) == ("bidirectional", 0.6, 0.5)
    assert recipe.preprocessing().input_size == recipe.preprocessing(59).input_size == 80
    assert recipe.preprocessing(0).input_size < 80
    assert recipe.steps_per_epoch(26_668) == 104


def test_the_identity_stage_of_ferplus_is_its_network() -> None:
    stage, recipe = recipes.load("ferplus_identity"), recipes.load("ferplus")

    assert stage.dataset == "identities"
    assert (stage.wiring, stage.colour, stage.detail_size) == (recipe.wiring, recipe.colour, recipe.detail_size)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="raf_db"):
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

    with pytest.raises(ValidationError, match="cycles last 60 epochs, the run 65"):
        Recipe.model_validate({**fields, "epochs": 65, "epoch_sizes": None})


def test_a_cycle_rises_then_falls_to_nothing_and_the_next_starts_again() -> None:
    first, second = Cycle(epochs=2, max_lr=0.1, warmup=0.2), Cycle(epochs=1, max_lr=0.04, warmup=0.1)
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
    schedule = Step(kind="step", lr=0.01, step_size=15, gamma=0.1)
    rates = [learning_rate(schedule, epoch * 96, steps_per_epoch=96) for epoch in (0, 14, 15, 30)]

    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.0001])


SHIPPED = files("training").joinpath("recipes/raf_db.toml").read_text()

# (data set, eval split, initial weights, loss, lr, step size, gamma, epochs, batch, balance, images, steps an epoch)
AUTHORS = {
    "raf_db": ("raf_db", "test", "identity", "weighted", 0.01, 15, 0.1, 100, 128, 0, 12_271, 96),
    "affectnet7": ("affectnet7", "valid", "identity", "weighted", 0.01, 5, 0.1, 20, 256, 1, 283_901, 1109),
    "affectnet8": ("affectnet8", "valid", "identity", "sum", 0.01, 5, 0.1, 20, 256, 1, 287_651, 1124),
    "caer_s": ("caer_s", "test", None, "weighted", 0.1, 50, 0.5, 400, 128, 0, 48_995, 383),
    "sfew": ("sfew", "valid", "fer2013", "sum", 0.001, 10, 0.1, 100, 128, 0, 958, 8),
    "fed_ro": ("fed_ro", "test", "identity", "sum", 0.01, 5, 0.1, 20, 256, 1, 296_172, 1157),
    "fer2013": ("fer2013", "valid", "identity", "weighted", 0.01, 15, 0.1, 60, 128, 0, 28_709, 225),
    "identity": ("identities", "valid", None, "weighted", 0.1, 10, 0.1, 30, 256, 0, 12_666 * 80, 3959),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_the_authors_recipes(name: str) -> None:
    dataset, eval_split, init, loss, lr, step_size, gamma, epochs, batch, balance, images, steps = AUTHORS[name]

    recipe = recipes.load(name)

    assert (recipe.dataset, recipe.eval_split, recipe.init, recipe.loss) == (dataset, eval_split, init, loss)
    assert recipe.schedule == Step(kind="step", lr=lr, step_size=step_size, gamma=gamma)
    assert (recipe.epochs, recipe.batch_size, recipe.class_balance) == (epochs, batch, balance)
    assert recipe.steps_per_epoch(images) == steps
    # What all of their runs share.
    assert (recipe.momentum, recipe.nesterov, recipe.weight_decay) == (0.9, False, 1e-4)
    assert (recipe.wiring, recipe.fusion_weight, recipe.labels) == ("unidirectional", 0.6, "majority")
    assert (recipe.input_size, recipe.colour, recipe.detail_size, recipe.epoch_sizes) == (224, "rgb", None, None)
    assert recipe.augment == Augmentation(flip=0.5, crop_area=0.08)
    assert recipe.averaging is None


def test_every_shipped_recipe_is_pinned_and_starts_from_a_shipped_one() -> None:
    assert set(recipes.names()) == {*AUTHORS, "ferplus", "ferplus_identity"}
    for name in recipes.names():
        assert recipes.load(name).init in (None, *recipes.names())


def test_fields_are_overridden_one_by_one() -> None:
    recipe = recipes.load("raf_db", ["epochs=3", "schedule.lr=0.5", "precision='bf16'"])

    assert (recipe.epochs, recipe.precision) == (3, "bf16")
    assert recipe.schedule == Step(kind="step", lr=0.5, step_size=15, gamma=0.1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("epoch=3", "epoch: Extra inputs"),
        ("epochs=-1", "epochs: Input should be greater"),
        ("epochs", "raf_db: "),
        ("precision='half'", "precision: Input should be 'float32'"),
    ],
)
def test_a_change_that_does_not_fit_is_an_error(change: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        recipes.load("raf_db", [change])


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(SHIPPED.replace("epochs = 100", "epochs = 7"))

    assert recipes.load(str(tmp_path / "own.toml")).epochs == 7


def test_a_last_step_of_one_image_is_not_taken() -> None:
    recipe = recipes.load("raf_db")

    assert [recipe.steps_per_epoch(n) for n in (128, 129, 130, 256)] == [1, 1, 2, 2]
    assert recipes.load("ferplus").steps_per_epoch(511) == 1
