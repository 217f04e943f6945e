"""A recipe: everything that decides a training run's outcome, as data.

Recipes are TOML files in ``recipes/``, named after their data set. An unknown key, a missing one or a value out of
range is an error that names it.
"""

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from manet.nn.wiring import SUBSETS, WIDTH, Wiring
from manet.vision.preprocess import Preprocessing
from training.data.datasets import Name
from training.data.datasets.expression_set import LabelKind, Split
from training.errors import TrainingError
from training.files import read_text

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Precision = Literal["float32", "bf16", "float16"]


MIN_BATCH = 2
"""Images that BatchNorm needs at least to compute a variance."""


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cycle(_FrozenModel):
    """A linear rise to ``max_lr`` over the first ``warmup`` share of the cycle's steps, then a cosine fall to zero."""

    epochs: Positive
    max_lr: Annotated[float, Field(gt=0)]
    warmup: Fraction


class Cycles(_FrozenModel):
    """One cycle after another, each starting where the last one's weights ended (warm restarts, SGDR 2017)."""

    kind: Literal["cycles"]
    cycles: Annotated[tuple[Cycle, ...], Field(min_length=1)]


class Step(_FrozenModel):
    """The paper's schedule: ``lr``, multiplied by ``gamma`` after every ``step_size`` epochs."""

    kind: Literal["step"]
    lr: Annotated[float, Field(gt=0)]
    step_size: Positive
    gamma: Fraction


class Augmentation(_FrozenModel):
    """Random changes to a training image, in this order; each is off at its default.

    Attributes:
        crop_area: smallest share of the image's area that a random crop keeps, its sides at 3:4 to 4:3 (the authors'
            RandomResizedCrop, whose smallest share is 0.08); None disables it.
        flip: probability of a mirror image.
        rotation: largest rotation to either side, in degrees.
        shift: largest shift along either axis, as a share of the side.
        zoom: largest enlargement or reduction, as a share.
        low_resolution: probability that the image loses detail, down to a half, a third or a quarter of its size.
        blur: probability of a Gaussian blur.
        gamma: largest gamma minus one; its inverse is as likely.
        contrast: largest relative change of contrast; ``brightness`` likewise.
        brightness: see ``contrast``.
        jpeg: probability of JPEG compression at a low quality.
        cover: probability that up to half of the image is occluded from one side.
        random_erasing: probability that a random rectangle is overwritten with zeros.
        mixup: both parameters of the beta distribution of the share at which two images of a batch are mixed (ICLR
            2018); 0 mixes none.
        cutmix: probability that a part of an image is replaced by another image's (ICCV 2019).
    """

    crop_area: Fraction | None = None
    flip: Fraction = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift: Fraction = 0.0
    zoom: Fraction = 0.0
    low_resolution: Fraction = 0.0
    blur: Fraction = 0.0
    gamma: Annotated[float, Field(ge=0)] = 0.0
    contrast: Fraction = 0.0
    brightness: Fraction = 0.0
    jpeg: Fraction = 0.0
    cover: Fraction = 0.0
    random_erasing: Fraction = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Fraction = 0.0


class Averaging(_FrozenModel):
    """An exponential moving average of the weights, which is what gets evaluated and kept.

    Attributes:
        update_every: steps between two updates; each costs a pass over 50 million parameters.
        decay: share of the old average that an update keeps.
    """

    update_every: Positive
    decay: Fraction


class Recipe(_FrozenModel):
    """One training run as data.

    Attributes:
        dataset: which data set's layout, labels and class order.
        eval_split: the split that each epoch is evaluated on. Data sets without a validation split are commonly
            evaluated on the test split, with the best epoch as the headline; a report shows the last epoch beside it.
        init: the recipe whose weights this one starts from, or None for random weights.
        labels: ``majority`` trains on one class per image, ``distribution`` on the share of votes for each class, and
            ``all_votes`` on the same, including images without a majority.
        wiring: see ``manet.nn.wiring.Wiring``.
        width: channels behind the first convolution, 64 in the paper; fewer are quick to train and inaccurate.
        fusion_weight: share of the local branch in the loss and in the prediction (the paper's lambda).
        loss: ``weighted`` is the paper's lambda and 1 - lambda, ``sum`` the two branches' losses as they are.
        input_size: side of the network input, px.
        colour: as in ``manet.vision.preprocess.Preprocessing``; likewise ``detail_size``.
        detail_size: side of the training images where they are smaller than the input.
        epochs: passes over the training images.
        epoch_sizes: input side of each epoch's training images, px, where a run starts with smaller ones; by
            default every epoch trains at ``input_size``.
        batch_size: images per step, over all processes and all parts of an accumulated step.
        last_batch: whether the images left over at the end of an epoch make a smaller step or are dropped.
        accumulate: parts that a step's batch is split into, run one after another, where memory is short
            (gradient accumulation); BatchNorm's statistics are then those of each part.
        precision: number format of the forward and the backward pass; weights stay float32.
        class_balance: strength of class-balanced sampling: an image is drawn in proportion to its class's count to the
            power of minus this. 0 visits each image once; 1 draws all classes equally often, with repetition.
            The authors' use of such a sampler is inferred: their repository has none, their logs fit one.
        logit_adjustment: strength of logit adjustment: in the loss, this times the logarithm of each class's share of
            the targets is added to the logits (Menon et al., ICLR 2021); 0 disables it.
        teacher_share: share of the targets that comes from the teachers' predictions, where teachers are given.
        schedule: the learning rate over the run.
        momentum: of SGD.
        nesterov: whether SGD uses Nesterov momentum.
        weight_decay: of SGD, on every parameter, as the authors do.
        augment: random changes to training images.
        averaging: weight averaging, or None.
        seed: of the initial weights, the order of images and all augmentation.
    """

    dataset: Name
    eval_split: Split = "valid"
    init: str | None = None
    labels: LabelKind
    wiring: Wiring
    width: Annotated[int, Field(gt=0, multiple_of=SUBSETS)] = WIDTH
    fusion_weight: Fraction
    loss: Literal["weighted", "sum"] = "weighted"
    input_size: Annotated[int, Field(ge=32)]
    colour: Literal["grey", "rgb"]
    detail_size: Positive | None = None
    epochs: Positive
    epoch_sizes: tuple[Annotated[int, Field(ge=32)], ...] | None = None
    batch_size: Annotated[int, Field(gt=1)]
    last_batch: Literal["keep", "drop"] = "drop"
    accumulate: Positive = 1
    precision: Precision = "float32"
    class_balance: Fraction = 0.0
    logit_adjustment: Annotated[float, Field(ge=0)] = 0.0
    teacher_share: Fraction = 0.0
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

    def steps_per_epoch(self, images: int) -> int:
        """Return the steps of an epoch over a number of training images."""
        whole, rest = divmod(images, self.batch_size)
        return whole + (self.last_batch == "keep" and rest >= MIN_BATCH)

    def preprocessing(self, epoch: int | None = None) -> Preprocessing:
        """Return the preprocessing of the given epoch of training or, by default, of the finished network."""
        size = self.input_size if epoch is None or self.epoch_sizes is None else self.epoch_sizes[epoch]
        return Preprocessing(input_size=size, colour=self.colour, detail_size=self.detail_size)


def names() -> tuple[str, ...]:
    """Return the names of the recipes that ship with the package, sorted."""
    found = (entry.name for entry in files("training").joinpath("recipes").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


class RecipeError(TrainingError):
    """A recipe does not exist, or is not valid."""


def load(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Return a recipe.

    Args:
        name: of one that ships with the package, or a ``.toml`` file.
        changes: fields to override, each as TOML: ``epochs=2``, ``schedule.lr=0.1``, ``precision="bf16"``.

    Raises:
        RecipeError: if there is no recipe of that name (the message lists the known ones) or no such file, or the
            fields are not valid: an unknown key, a missing one, a value out of range.
    """
    if name.endswith(".toml"):
        text = read_text(Path(name), RecipeError)
    elif name in names():
        text = files("training").joinpath("recipes", f"{name}.toml").read_text()
    else:
        raise RecipeError(f"unknown recipe {name!r}; known are {', '.join(names())}")
    try:
        fields = tomllib.loads(text)
        for change in changes:
            _merge(fields, tomllib.loads(change))
        return Recipe.model_validate(fields)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name}: {error}") from error
    except ValidationError as error:
        raise RecipeError(f"{name}: {validation_message(error)}") from error


def validation_message(error: ValidationError) -> str:
    """Return what is wrong with a recipe's fields, on one line."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())


def _merge(fields: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(fields.get(key), dict):
            _merge(fields[key], value)
        else:
            fields[key] = value
