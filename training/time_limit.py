"""Time limit: a recipe shortened so that its run fits in a number of seconds."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from training.dry_run import measure_step_time
from training.recipe import Cycles, Recipe
from training.run_dir import RunDir
from training.trainer import Trainer

USABLE_SHARE = 0.85
"""Share of the limit that epochs may take; start-up, reading and the last checkpoint take the rest."""


@dataclass(frozen=True, slots=True)
class EpochCosts:
    """How long the epochs of a run take, in seconds.

    Attributes:
        training: of an epoch's steps, by its input size.
        between: between two epochs: evaluation, and writing weights and the curve.
    """

    training: dict[int, float]
    between: float

    def total(self, recipe: Recipe) -> float:
        """Return how long a whole run of a recipe takes."""
        sizes = (recipe.preprocessing(epoch).input_size for epoch in range(recipe.epochs))
        return sum(self.training[size] + self.between for size in sizes)


def measure_costs(trainer: Trainer, *, workers: int) -> EpochCosts:
    """Time some steps at each input size, and the end of an epoch; the trainer must not be used afterwards."""
    recipe = trainer.recipe
    first = {recipe.preprocessing(epoch).input_size: epoch for epoch in reversed(range(recipe.epochs))}
    training = {size: measure_step_time(trainer, epoch, workers).step for size, epoch in first.items()}
    began = trainer.clock()
    result = trainer.end_epoch()
    if result is not None:
        with tempfile.TemporaryDirectory() as folder:
            RunDir(Path(folder)).add_epoch(result, trainer)
    between = trainer.clock() - began
    return EpochCosts({size: step * trainer.steps_per_epoch for size, step in training.items()}, between)


def fit_to_limit(recipe: Recipe, costs: EpochCosts, seconds: float) -> Recipe:
    """Return the recipe with as many of its epochs as fit, at least one for each cycle."""
    fewest = len(recipe.schedule.cycles) if isinstance(recipe.schedule, Cycles) else 1
    for epochs in range(recipe.epochs, fewest, -1):
        if costs.total(shorter := shorten(recipe, epochs)) <= USABLE_SHARE * seconds:
            return shorter
    return shorten(recipe, fewest)


def shorten(recipe: Recipe, epochs: int) -> Recipe:
    """Return the recipe with fewer epochs; its input sizes and its cycles or steps keep their shares of the run."""
    fields = recipe.model_dump()
    fields["epochs"] = epochs
    if recipe.epoch_sizes is not None:
        sizes = [recipe.epoch_sizes[epoch * recipe.epochs // epochs] for epoch in range(epochs)]
        fields["epoch_sizes"] = [*sizes[:-1], recipe.epoch_sizes[-1]]
    if isinstance(recipe.schedule, Cycles):
        count, end, total = len(recipe.schedule.cycles), 0, 0
        for place, cycle in enumerate(recipe.schedule.cycles, start=1):
            begin, total = end, total + cycle.epochs
            # At least one epoch for this cycle, and one for each that follows.
            end = min(max(round(total * epochs / recipe.epochs), begin + 1), epochs - count + place)
            fields["schedule"]["cycles"][place - 1]["epochs"] = end - begin
    else:
        fields["schedule"]["step_size"] = max(1, round(recipe.schedule.step_size * epochs / recipe.epochs))
    return Recipe.model_validate(fields)
