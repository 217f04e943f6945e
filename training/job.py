"""Training job: a recipe with its data set and initial weights, and the trainer made from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from manet.cpus import available_cpus
from training import recipe as recipes
from training.data.datasets import broken, drop_broken, load, require_no_broken
from training.data.datasets.expression_set import DatasetError, ExpressionSet, require_equal_classes
from training.distributed import World
from training.init_weights import initial_state
from training.ops import arithmetic
from training.provenance import commit, machine
from training.recipe import Recipe
from training.run_dir import RunDir
from training.teacher import with_teacher_targets
from training.time_limit import fit_to_limit, measure_costs
from training.trainer import Trainer

Role = Literal["train", "eval"]
"""What a split is for; also the name of its facts in ``run.json``."""


ROLES: tuple[Role, ...] = ("train", "eval")


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """The check of a split's images when a run began, so that they are decoded only once.

    Attributes:
        listed: number of images that the split lists, broken ones included.
        sha256: of their names and labels.
        broken: indices of those that cannot be decoded, ascending.
    """

    listed: int
    sha256: str
    broken: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What to train.

    Attributes:
        name: the recipe's name, or its file.
        recipe: the recipe, changes included.
        changes: the fields that were overridden.
        data: folder of the data set, absolute.
        duplicates: a CSV of images to leave out, absolute, or None.
        init: the initial weights, or None.
        skip_broken: whether images that cannot be read are left out.
        teachers: files of weights whose predictions become the recipe's ``teacher_share`` of the targets, absolute.
        checked: the check of each split when the run began, or None before that.
    """

    name: str
    recipe: Recipe
    changes: tuple[str, ...]
    data: str
    duplicates: str | None
    init: str | None
    skip_broken: bool
    teachers: tuple[str, ...] = ()
    checked: Mapping[Role, SplitCheck] | None = None

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
        """Return the job for a recipe by its name or file.

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
    def from_run(cls, folder: RunDir, data: Path | None = None, duplicates: Path | None = None) -> Self:
        """Return the job of an existing run.

        Args:
            folder: of the run.
            data: the new folder of its data set; None if it has not moved.
            duplicates: the new path of the CSV of images to leave out; None if it has not moved.

        Raises:
            RunError: if the folder contains no run, or a broken one.
        """
        parts = (f"{role}.{field.name}" for role in ROLES for field in fields(SplitCheck))
        facts = folder.facts("recipe", "changes", "data", "duplicates", "init", "skip_broken", "teachers", *parts)
        checked: dict[Role, SplitCheck] = {
            role: SplitCheck(facts[role]["listed"], facts[role]["sha256"], tuple(facts[role]["broken"]))
            for role in ROLES
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

    def facts(self, trainer: Trainer, checked: Mapping[Role, SplitCheck]) -> dict[str, Any]:
        """Return what ``run.json`` keeps beside the recipe: enough to resume, to repeat, and to interpret the figures.

        Args:
            trainer: the job's trainer.
            checked: what ``self.trainer`` returned beside it.
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
        self, world: World, *, notify: Callable[[str], object], workers: int, seconds: float | None = None
    ) -> tuple[Trainer, Mapping[Role, SplitCheck]]:
        """Return the trainer at its first step, and the check of its images.

        A new run is checked here: the main process decodes every image once, and the others receive the result. A
        resumed run takes its weights from its checkpoint.

        Args:
            world: where it runs.
            notify: takes a line on the data or the initial weights that the user should know.
            workers: worker processes that read images.
            seconds: time limit of a new run, whose recipe is shortened to fit; None for no limit.

        Raises:
            DatasetError: if the data are not what their owners ship, or not those that the run began with.
            CheckpointError: if the initial weights do not fit.
        """
        recipe, source = self.recipe, Path(self.data)
        duplicates = Path(self.duplicates) if self.duplicates else None
        listed: dict[Role, ExpressionSet] = {
            "train": load(
                recipe.dataset, source, "train", recipe.labels, duplicates=duplicates, skip_missing=self.skip_broken
            ),
            "eval": load(recipe.dataset, source, recipe.eval_split, skip_missing=self.skip_broken),
        }
        require_equal_classes(listed["train"], listed["eval"])
        for images in listed.values():
            if images.remark is not None:
                notify(f"note: {images.remark}")
        if self.checked is None and recipe.init and not self.init:
            notify(
                f"note: this recipe starts from the weights of the recipe {recipe.init}, and this run from random "
                f"weights; give --init RUN/best.safetensors of such a run for the paper's figure"
            )
        init_state = (
            initial_state(self.init, recipe, listed["train"].classes) if self.checked is None and self.init else None
        )
        checked = self._check(listed, world, notify) if self.checked is None else self._verify(listed, self.checked)
        train, valid = (drop_broken(listed[role], checked[role].broken) for role in ROLES)
        if self.teachers:
            train = with_teacher_targets(
                [Path(file) for file in self.teachers], train, recipe.teacher_share, world.device
            )
        make = partial(Trainer, train=train, valid=valid, world=world, init_state=init_state, workers=workers)
        trainer = make(recipe)
        if seconds is not None and self.checked is None:
            costs = measure_costs(trainer, workers=workers)
            shorter = world.broadcast_from_main(lambda: fit_to_limit(recipe, costs, seconds))
            notify(f"note: {shorter.epochs} of {recipe.epochs} epochs fit in {seconds:.0f} s")
            trainer = make(shorter)
        return trainer, checked

    def _check(
        self, listed: Mapping[Role, ExpressionSet], world: World, notify: Callable[[str], object]
    ) -> Mapping[Role, SplitCheck]:
        errors = world.broadcast_from_main(
            lambda: {role: broken(images, processes=available_cpus()) for role, images in listed.items()}
        )
        for found in errors.values():
            require_no_broken(found, skip=self.skip_broken)
            for error in found.values():
                notify(f"left out: {error}")
        return {role: SplitCheck(len(images), images.sha256, tuple(errors[role])) for role, images in listed.items()}

    def _verify(
        self, listed: Mapping[Role, ExpressionSet], checked: Mapping[Role, SplitCheck]
    ) -> Mapping[Role, SplitCheck]:
        """Return the check of when the run began, after verifying that the images are still the same."""
        for role, images in listed.items():
            before, now = checked[role], SplitCheck(len(images), images.sha256, checked[role].broken)
            if now != before:
                raise DatasetError(
                    f"{self.data}: not the {images.split} data that the run began with: expected {before.listed} "
                    f"images, SHA-256 of their names and labels {before.sha256}; found {now.listed}, {now.sha256}"
                )
        return checked
