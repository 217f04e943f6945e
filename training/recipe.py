"""A recipe: everything that decides a training run's outcome, as data.

Recipes lie beside this file as TOML, named after their data set. An unknown key, a missing one or a value out of
range is an error that names it.
"""

import tomllib
from importlib.resources import files
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from manet.preprocess import Preprocessing
from manet.wiring import Wiring
from training.datasets import Name

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cycle(_Frozen):
    """A linear rise to ``peak`` over the first ``warmup`` share of the cycle's steps, then a cosine fall to zero."""

    epochs: Positive
    peak: Annotated[float, Field(gt=0)]
    warmup: Fraction


class Cycles(_Frozen):
    """One cycle after another, each starting where the last one's weights ended (warm restarts, SGDR 2017)."""

    kind: Literal["cycles"]
    cycles: Annotated[tuple[Cycle, ...], Field(min_length=1)]


class Step(_Frozen):
    """The paper's schedule: ``rate`` times ``gamma`` to the number of whole ``every`` epochs that have passed."""

    kind: Literal["step"]
    rate: Annotated[float, Field(gt=0)]
    every: Positive
    gamma: Fraction


class Augmentation(_Frozen):
    """Random changes to a training picture; each is off at its default.

    Attributes:
        flip: probability of a mirror image.
        rotation: largest turn to either side, in degrees.
        shift: largest shift along either axis, as a share of the side.
        zoom: largest enlargement or reduction, as a share.
        brightness: largest relative change of brightness; ``contrast`` likewise.
        contrast: see ``brightness``.
        erase: probability that a random rectangle is overwritten with zeros.
    """

    flip: Fraction = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift: Fraction = 0.0
    zoom: Fraction = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    erase: Fraction = 0.0


class Averaging(_Frozen):
    """An exponential moving average of the weights, which is what gets evaluated and kept.

    Attributes:
        every: steps between two updates; each costs a pass over 50 million parameters.
        decay: share of the old average that an update keeps.
    """

    every: Positive
    decay: Fraction


class Recipe(_Frozen):
    """One training run as data.

    Attributes:
        dataset: which data set's layout, labels and class order.
        labels: ``majority`` trains on one class a picture, ``distribution`` on the share of votes for each class.
        wiring: see ``manet.blocks.Wiring``.
        fusion_weight: share of the local branch in the loss and in the answer (the paper's lambda).
        input_size: side of the network input, px.
        colour: as in ``manet.preprocess.Preprocessing``; likewise ``detail_size``.
        detail_size: side of the training pictures where they are smaller than the input.
        epochs: passes over the training pictures.
        epoch_sizes: input side of each epoch's training pictures, px, where a run begins on smaller ones; by
            default every epoch trains at ``input_size``.
        batch_size: pictures a step.
        class_balance: how far an epoch's draws even out the classes: a picture is drawn in proportion to its class's
            count to the power of minus this. 0 visits each picture once; 1 draws every class alike, with repetition
            (the authors' imbalanced-data sampler).
        schedule: the learning rate over the run.
        momentum: of SGD.
        nesterov: whether SGD looks ahead.
        weight_decay: of SGD, on every parameter, as the authors do.
        augment: random changes to training pictures.
        averaging: weight averaging, or None.
        seed: of the first weights, the order of pictures and every random change.
    """

    dataset: Name
    labels: Literal["majority", "distribution"]
    wiring: Wiring
    fusion_weight: Fraction
    input_size: Annotated[int, Field(ge=32)]
    colour: Literal["grey", "rgb"]
    detail_size: Positive | None = None
    epochs: Positive
    epoch_sizes: tuple[Annotated[int, Field(ge=32)], ...] | None = None
    batch_size: Annotated[int, Field(gt=1)]
    class_balance: Fraction = 0.0
    schedule: Annotated[Cycles | Step, Field(discriminator="kind")]
    momentum: Fraction
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0)]
    augment: Augmentation = Augmentation()
    averaging: Averaging | None = None
    seed: int

    @model_validator(mode="after")
    def _one_size_an_epoch(self) -> Self:
        if self.epoch_sizes is not None and len(self.epoch_sizes) != self.epochs:
            raise ValueError(f"epoch_sizes has {len(self.epoch_sizes)} entries for {self.epochs} epochs")
        return self

    @model_validator(mode="after")
    def _cycles_fill_the_run(self) -> Self:
        if isinstance(self.schedule, Cycles):
            epochs = sum(cycle.epochs for cycle in self.schedule.cycles)
            if epochs != self.epochs:
                raise ValueError(f"the schedule's cycles last {epochs} epochs, the run {self.epochs}")
        return self

    def preprocessing(self, epoch: int | None = None) -> Preprocessing:
        """Return how the network wants its faces, in the given epoch of training or, by default, for good."""
        size = self.input_size if epoch is None or self.epoch_sizes is None else self.epoch_sizes[epoch]
        return Preprocessing(input_size=size, colour=self.colour, detail_size=self.detail_size)


def names() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package, sorted."""
    found = (entry.name for entry in files("training").joinpath("recipes").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def load(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        KeyError: if there is none; the message lists those there are.
        pydantic.ValidationError: if the file holds an unknown key, lacks one, or a value is out of range.
    """
    if name not in names():
        raise KeyError(f"no recipe {name!r}; there are: {', '.join(names())}")
    return Recipe.model_validate(tomllib.loads(files("training").joinpath("recipes", f"{name}.toml").read_text()))
