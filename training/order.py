"""Order: what somebody asked to be trained, on what, from what; and the trainer that follows from it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from training import recipe as recipes
from training.datasets import load, without_broken
from training.datasets.expression_set import ExpressionSet
from training.distributed import World
from training.initial import start
from training.loop import Trainer
from training.recipe import Recipe
from training.run import RunFolder, commit, machine


@dataclass(frozen=True, slots=True)
class Order:
    """What to train.

    Attributes:
        name: the recipe's name, or its file.
        recipe: the recipe, changes included.
        changes: the fields that were set otherwise.
        data: the folder that holds the data set, absolute.
        duplicates: a CSV of pictures to leave out, absolute, or None.
        init: weights to begin from, or None.
        skip_broken: whether pictures that cannot be read are left out.
    """

    name: str
    recipe: Recipe
    changes: tuple[str, ...]
    data: str
    duplicates: str | None
    init: str | None
    skip_broken: bool

    @classmethod
    def new(
        cls,
        name: str,
        changes: Sequence[str],
        data: Path,
        duplicates: Path | None,
        init: str | None,
        *,
        skip_broken: bool,
    ) -> Self:
        """Return the order for a recipe by its name or file.

        Raises:
            RecipeError: if there is no such recipe, or a change does not fit it.
        """
        return cls(
            name=name,
            recipe=recipes.load(name, changes),
            changes=tuple(changes),
            data=str(data.resolve()),
            duplicates=str(duplicates.resolve()) if duplicates else None,
            init=init and (str(Path(init).resolve()) if Path(init).is_file() else init),
            skip_broken=skip_broken,
        )

    @classmethod
    def of(cls, folder: RunFolder) -> Self:
        """Return the order that a run in a folder follows."""
        facts = folder.facts()
        return cls(
            name=facts["recipe"],
            recipe=folder.recipe(),
            changes=tuple(facts["changes"]),
            data=facts["data"],
            duplicates=facts["duplicates"],
            init=facts["init"],
            skip_broken=facts["skip_broken"],
        )

    def facts(self, trainer: Trainer) -> dict[str, Any]:
        """Return what a run folder keeps beside the recipe: enough to continue, to repeat, and to judge the figures."""
        return {
            "recipe": self.name,
            **{key: value for key, value in asdict(self).items() if key not in ("name", "recipe")},
            "train": {"n": len(trainer.train), "protocol": trainer.train.protocol},
            "judged": {"split": trainer.valid.split, "n": len(trainer.valid), "protocol": trainer.valid.protocol},
            "processes": trainer.world.size,
            "device": trainer.device.type,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
        }

    def trainer(self, world: World, *, say: Callable[[str], object], workers: int, fresh: bool) -> Trainer:
        """Return the trainer at its first step.

        Args:
            world: where it runs.
            say: takes a line on whatever a person should know about the data or the start.
            workers: processes that read pictures.
            fresh: whether the run begins here; a continued one takes its weights from its checkpoint.

        Raises:
            DatasetError: if the data are not what their owners ship.
            CheckpointError: if the weights to begin from do not fit.
        """
        recipe, source = self.recipe, Path(self.data)
        duplicates = Path(self.duplicates) if self.duplicates else None
        train = load(recipe.dataset, source, "train", recipe.labels, duplicates=duplicates)
        judge = load(recipe.dataset, source, recipe.judged_on)
        train, judge = (self._readable(pictures, say) for pictures in (train, judge))
        if fresh and recipe.init and not self.init:
            say(
                f"note: this recipe begins from what the recipe {recipe.init} ends with, and this run from random "
                f"weights; give --init RUN/best.safetensors of such a run for the paper's figure"
            )
        begin = start(self.init, recipe, train.classes) if fresh and self.init else None
        return Trainer(recipe, train, judge, world=world, start=begin, workers=workers)

    def _readable(self, pictures: ExpressionSet, say: Callable[[str], object]) -> ExpressionSet:
        if pictures.remark is not None:
            say(f"note: {pictures.remark}")
        readable, complaints = without_broken(pictures, skip=self.skip_broken)
        for complaint in complaints:
            say(f"left out: {complaint}")
        return readable
