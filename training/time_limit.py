"""Time limit: a recipe shortened so that its run fits in the seconds that a machine is lent for."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from training.dry_run import step_pace
from training.recipe import Cycles, Recipe
from training.run_dir import RunFolder
from training.trainer import Trainer

USED = 0.85
"""Share of the limit that is planned with; reading, starting and the last checkpoint take the rest."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What epochs of a run take, in seconds.

    Attributes:
        training: of an epoch's steps, by its input size.
        between: of what happens between two epochs: evaluation, and writing weights and the curve.
    """

    training: dict[int, float]
    between: float

    def whole(self, recipe: Recipe) -> float:
        """Return what a recipe takes."""
        sizes = (recipe.preprocessing(epoch).input_size for epoch in range(recipe.epochs))
        return sum(self.training[size] + self.between for size in sizes)


def costs(trainer: Trainer, *, readers: int) -> Costs:
    """Measure some steps at each input size, and the end of an epoch; the trainer is of no use for training after."""
    recipe = trainer.recipe
    first = {recipe.preprocessing(epoch).input_size: epoch for epoch in reversed(range(recipe.epochs))}
    training = {size: step_pace(trainer, epoch, readers).step for size, epoch in first.items()}
    began = trainer.clock()
    result = trainer.end_epoch()
    if result is not None:
        with tempfile.TemporaryDirectory() as folder:
            RunFolder(Path(folder)).add(result, trainer)
    between = trainer.clock() - began
    return Costs({size: step * trainer.steps_per_epoch for size, step in training.items()}, between)


def fitted(recipe: Recipe, found: Costs, seconds: float) -> Recipe:
    """Return the recipe in as many of its epochs as fit, at least one for each cycle, and never more than it has."""
    least = len(recipe.schedule.cycles) if isinstance(recipe.schedule, Cycles) else 1
    for epochs in range(recipe.epochs, least, -1):
        if found.whole(shorter := shortened(recipe, epochs)) <= USED * seconds:
            return shorter
    return shortened(recipe, least)


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """Return the recipe in fewer epochs; its input sizes and its cycles or steps keep their shares of the run."""
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
        fields["schedule"]["every"] = max(1, round(recipe.schedule.every * epochs / recipe.epochs))
    return Recipe.model_validate(fields)
