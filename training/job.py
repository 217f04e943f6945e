"""Order: what somebody asked to be trained, on what, from what; and the trainer that follows from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from manet.cpus import available_cpus
from training import recipe as recipes
from training.data.datasets import broken, demand_whole, less_broken, load
from training.data.datasets.expression_set import DatasetError, ExpressionSet
from training.distributed import World
from training.init_weights import start
from training.ops import arithmetic
from training.provenance import commit, machine
from training.recipe import Recipe
from training.run_dir import RunFolder
from training.teacher import taught
from training.time_limit import costs, fitted
from training.trainer import Trainer

Role = Literal["train", "judged"]
"""What a split is for; also the name of its facts in ``run.json``."""


ROLES: tuple[Role, ...] = ("train", "judged")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found when a run's images were decoded at its beginning, so that this is done only once.

    Attributes:
        listed: how many images the split lists, the broken ones included.
        sha256: of their names and labels.
        broken: places of those that cannot be decoded, ascending.
    """

    listed: int
    sha256: str
    broken: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """What to train.

    Attributes:
        name: the recipe's name, or its file.
        recipe: the recipe, changes included.
        changes: the fields that were set otherwise.
        data: the folder that holds the data set, absolute.
        duplicates: a CSV of images to leave out, absolute, or None.
        init: weights to begin from, or None.
        skip_broken: whether images that cannot be read are left out.
        teachers: files of weights whose answers become the recipe's ``teacher_share`` of the targets, absolute.
        checked: what was found of each split when the run began, or None before that.
    """

    name: str
    recipe: Recipe
    changes: tuple[str, ...]
    data: str
    duplicates: str | None
    init: str | None
    skip_broken: bool
    teachers: tuple[str, ...] = ()
    checked: Mapping[Role, Checked] | None = None

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
        teachers: Sequence[Path] = (),
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
            teachers=tuple(str(teacher.resolve()) for teacher in teachers),
        )

    @classmethod
    def of(cls, folder: RunFolder, data: Path | None = None, duplicates: Path | None = None) -> Self:
        """Return the order that a run in a folder follows.

        Args:
            folder: of the run.
            data: where its data set lies now; None where it lies as it did.
            duplicates: where the CSV of what is left out lies now; None as with ``data``.

        Raises:
            RunError: if the folder holds no run, or a broken one.
        """
        parts = (f"{role}.{field.name}" for role in ROLES for field in fields(Checked))
        facts = folder.facts("recipe", "changes", "data", "duplicates", "init", "skip_broken", "teachers", *parts)
        checked: dict[Role, Checked] = {
            role: Checked(facts[role]["listed"], facts[role]["sha256"], tuple(facts[role]["broken"])) for role in ROLES
        }
        return cls(
            name=facts["recipe"],
            recipe=folder.recipe(),
            changes=tuple(facts["changes"]),
            data=str(data.resolve()) if data else facts["data"],
            duplicates=str(duplicates.resolve()) if duplicates else facts["duplicates"],
            init=facts["init"],
            skip_broken=facts["skip_broken"],
            teachers=tuple(facts["teachers"]),
            checked=checked,
        )

    def facts(self, trainer: Trainer, checked: Mapping[Role, Checked]) -> dict[str, Any]:
        """Return what a run folder keeps beside the recipe: enough to continue, to repeat, and to judge the figures.

        Args:
            trainer: that of the order.
            checked: what ``trainer`` found of the images.
        """
        return {
            "recipe": self.name,
            "changes": self.changes,
            "data": self.data,
            "duplicates": self.duplicates,
            "init": self.init,
            "skip_broken": self.skip_broken,
            "teachers": self.teachers,
            **{
                role: {"split": used.split, "n": len(used), "protocol": used.protocol, **asdict(checked[role])}
                for role, used in zip(ROLES, (trainer.train, trainer.valid), strict=True)
            },
            "processes": trainer.world.size,
            "device": trainer.device.type,
            "arithmetic": arithmetic(trainer.device),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
        }

    def trainer(
        self, world: World, *, say: Callable[[str], object], workers: int, seconds: float | None = None
    ) -> tuple[Trainer, Mapping[Role, Checked]]:
        """Return the trainer at its first step, and what was found of its images.

        Where nothing was found yet, the run begins here: the first process decodes every image once, and the others
        get what it found. A continued run takes its weights from its checkpoint.

        Args:
            world: where it runs.
            say: takes a line on whatever a person should know about the data or the start.
            workers: processes that read images.
            seconds: that a run which begins here may take; its recipe is shortened to fit. None shortens nothing.

        Raises:
            DatasetError: if the data are not what their owners ship, or not those that the run began with.
            CheckpointError: if the weights to begin from do not fit.
        """
        recipe, source = self.recipe, Path(self.data)
        duplicates = Path(self.duplicates) if self.duplicates else None
        listed: dict[Role, ExpressionSet] = {
            "train": load(
                recipe.dataset, source, "train", recipe.labels, duplicates=duplicates, skip_missing=self.skip_broken
            ),
            "judged": load(recipe.dataset, source, recipe.judged_on, skip_missing=self.skip_broken),
        }
        for images in listed.values():
            if images.remark is not None:
                say(f"note: {images.remark}")
        if self.checked is None and recipe.init and not self.init:
            say(
                f"note: this recipe begins from what the recipe {recipe.init} ends with, and this run from random "
                f"weights; give --init RUN/best.safetensors of such a run for the paper's figure"
            )
        begin = start(self.init, recipe, listed["train"].classes) if self.checked is None and self.init else None
        checked = self._check(listed, world, say) if self.checked is None else self._compared(listed, self.checked)
        train, judge = (less_broken(listed[role], checked[role].broken) for role in ROLES)
        if self.teachers:
            train = taught([Path(file) for file in self.teachers], train, recipe.teacher_share, world.device)
        make = partial(Trainer, train=train, valid=judge, world=world, start=begin, workers=workers)
        trainer = make(recipe)
        if seconds is not None and self.checked is None:
            found = costs(trainer, readers=workers)
            shorter = world.from_first(lambda: fitted(recipe, found, seconds))
            say(f"note: {shorter.epochs} of {recipe.epochs} epochs fit in {seconds:.0f} s")
            trainer = make(shorter)
        return trainer, checked

    def _check(
        self, listed: Mapping[Role, ExpressionSet], world: World, say: Callable[[str], object]
    ) -> Mapping[Role, Checked]:
        complaints = world.from_first(
            lambda: {role: broken(images, processes=available_cpus()) for role, images in listed.items()}
        )
        for found in complaints.values():
            demand_whole(found, skip=self.skip_broken)
            for complaint in found.values():
                say(f"left out: {complaint}")
        return {role: Checked(len(images), images.sha256, tuple(complaints[role])) for role, images in listed.items()}

    def _compared(
        self, listed: Mapping[Role, ExpressionSet], checked: Mapping[Role, Checked]
    ) -> Mapping[Role, Checked]:
        """Return what was found when the run began, if the images are still those."""
        for role, images in listed.items():
            began, now = checked[role], Checked(len(images), images.sha256, checked[role].broken)
            if now != began:
                raise DatasetError(
                    f"{self.data}: not the {images.split} data that the run began with: expected {began.listed} "
                    f"images, SHA-256 of their names and labels {began.sha256}; found {now.listed}, {now.sha256}"
                )
        return checked
