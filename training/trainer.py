"""Trainer: steps and epochs of one run, and the state from which a stopped run resumes."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from manet.nn.classifier import Normalise
from manet.nn.model import MANet, fuse
from manet.vision.preprocess import Preprocessing
from training.cuda_graphs import GraphedStep
from training.data.augment import Batch, Draws, augment, draw
from training.data.datasets.expression_set import DatasetError, ExpressionSet
from training.data.transforms import Draw, Reader, Samples, epoch_order, in_order, seed_of
from training.distributed import World
from training.eval.evaluate import Evaluation, score
from training.loss import adjust_logits, branch_loss
from training.ops import use_tiny_map_gradients
from training.recipe import MIN_BATCH, Precision, Recipe, RecipeError
from training.schedule import learning_rate

_DTYPES: Mapping[Precision, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}
)

WRONG_IN_BF16 = range(33, 41)
"""Input sizes, px, whose patches of 3 x 2 positions oneDNN convolves wrongly in bf16, with a stride of 2, on CPUs: it
reads uninitialised memory (seen with PyTorch 2.14 on a processor with AMX)."""


@dataclass(frozen=True)
class EpochResult:
    """The result of an epoch.

    Attributes:
        epoch: counted from 0.
        learning_rate: of its last step.
        train_loss: mean over its training images, in nats.
        train_accuracy: of the network on them during training, in percent.
        evaluation: of the weights after it, on ``eval_split``.
        seconds: spent on its steps.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    evaluation: Evaluation
    seconds: float

    def as_row(self) -> dict[str, float | int]:
        """Return the epoch as a row of the log: rates in percent, losses in nats, time in seconds."""
        row = {
            "epoch": self.epoch,
            "learning_rate": self.learning_rate,
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
            "valid_cross_entropy": self.evaluation.cross_entropy,
            "valid_accuracy": self.evaluation.accuracy,
            "valid_macro_recall": self.evaluation.macro_recall,
            "seconds": self.seconds,
        }
        return {key: round(value, 5) for key, value in row.items()}


@dataclass
class _Totals:
    """Running totals of an epoch; loss and correct predictions stay on the device until they are read."""

    loss: float | Tensor = 0.0
    correct: float | Tensor = 0
    seen: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return plain numbers."""
        return {**vars(self), "loss": float(self.loss), "correct": float(self.correct)}


class Trainer:
    """Trains a recipe on one device, alone or as one of several processes.

    ``state_dict`` holds all that is needed to resume.

    Args:
        recipe: how to train.
        train: the training images.
        valid: the images that each epoch is evaluated on.
        world: the device and the other processes.
        init_state: initial weights, under all the network's keys; None draws them from the recipe's seed.
        clock: seconds, monotonic.
        workers: worker processes that read images; 0 reads them between steps.

    Raises:
        DatasetError: if there are fewer training images than a batch has.
        RecipeError: if it trains in bf16 on a CPU at one of ``WRONG_IN_BF16``.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: ExpressionSet,
        valid: ExpressionSet,
        *,
        world: World,
        init_state: Mapping[str, Tensor] | None = None,
        clock: Callable[[], float] = time.monotonic,
        workers: int = 0,
    ) -> None:
        self.recipe, self.train, self.valid = recipe, train, valid
        self.world, self.device, self.clock, self._workers = world, world.device, clock, workers
        self.steps_per_epoch = recipe.steps_per_epoch(len(train))
        if not self.steps_per_epoch:
            raise DatasetError(f"{len(train)} training images do not fill one batch of {recipe.batch_size}")
        smallest = recipe.batch_size if recipe.last_batch == "drop" else len(train) % recipe.batch_size
        if MIN_BATCH <= smallest < world.size:
            raise DatasetError(f"a step of {smallest} images leaves some of {world.size} processes without images")
        sizes = {recipe.preprocessing(epoch).input_size for epoch in range(recipe.epochs)}
        if self.device.type == "cpu" and recipe.precision == "bf16" and not sizes.isdisjoint(WRONG_IN_BF16):
            raise RecipeError(
                f"{min(sizes.intersection(WRONG_IN_BF16))} px in bf16 gives wrong numbers on a CPU; train in float32, "
                f"or at less than {WRONG_IN_BF16.start} or more than {WRONG_IN_BF16.stop - 1} px"
            )
        torch.manual_seed(recipe.seed)
        self.model = MANet(len(train.classes), wiring=recipe.wiring, width=recipe.width)
        if init_state is not None:
            self.model.load_state_dict(init_state)
        self.model.to(self.device).to(memory_format=torch.channels_last)
        if self.device.type == "cpu":
            use_tiny_map_gradients(self.model)
        self.average = self._average()
        self._network = world.wrap(self.model)
        # A graph has one input shape, no communication, and no decisions of the scaler.
        graphed = (
            self.device.type == "cuda"
            and world.size == 1
            and recipe.last_batch == "drop"
            and recipe.precision != "float16"
        )
        self._step_fn: Callable[[Tensor, Tensor, Tensor], Tensor] = (
            GraphedStep(self._train_step) if graphed else self._train_step
        )
        self._lr = torch.zeros((), device=self.device) if graphed else None
        self.optimiser = torch.optim.SGD(
            self.model.parameters(),
            lr=0.0,  # set at each step from the recipe's schedule
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=graphed,
        )
        # Only float16 has too little range for gradients; for the others the scaler is disabled.
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "float16")
        self._log_prior = torch.from_numpy(train.targets.mean(axis=0)).clamp(min=1e-6).log().to(self.device)
        self._normalise = Normalise(recipe.preprocessing()).to(self.device)
        self._eval_reader = self._reader(valid, recipe.preprocessing())
        self._readers: dict[int, Reader] = {}
        self.epoch, self.step = 0, 0
        self._totals = _Totals()

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        return self.steps_per_epoch * self.recipe.epochs

    @property
    def steps_done(self) -> int:
        """Steps taken so far."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def finished(self) -> bool:
        """Whether every epoch is done."""
        return self.epoch >= self.recipe.epochs

    @property
    def waited(self) -> float:
        """Seconds of the epoch so far in which the network waited for images."""
        return self._totals.waited

    def steps(self) -> Iterator[Tensor]:
        """Run the rest of the current epoch, yielding the loss of each step, a scalar on the device; stop at any point.

        Nothing here synchronises with the device; reading the loss does.
        """
        self._network.train()
        started = self.clock() - self._totals.seconds
        requested = self.clock()
        for images, targets in self._batches():
            self._totals.waited += self.clock() - requested
            loss, correct, seen = self._take_step(images, targets)
            self._totals.loss += loss * seen
            self._totals.correct += correct
            self._totals.seen += seen
            self._totals.seconds = self.clock() - started
            self.step += 1
            yield loss
            requested = self.clock()

    def end_epoch(self) -> EpochResult | None:
        """Evaluate the epoch, begin the next one, and return the finished one's result, None outside the main process.

        The other processes wait for that evaluation at their next step.
        """
        evaluation = self.evaluate(self.valid) if self.world.is_main else None
        totals = self._totals
        result = (
            None
            if evaluation is None
            else EpochResult(
                epoch=self.epoch,
                learning_rate=float(self.optimiser.param_groups[0]["lr"]),
                train_loss=float(totals.loss) / totals.seen,
                train_accuracy=100 * float(totals.correct) / totals.seen,
                evaluation=evaluation,
                seconds=totals.seconds,
            )
        )
        self.epoch, self.step, self._totals = self.epoch + 1, 0, _Totals()
        return result

    @torch.inference_mode()
    def evaluate(self, images: ExpressionSet) -> Evaluation:
        """Evaluate the averaged weights on images, at the recipe's final input size."""
        network, spec = self.best_weights().eval(), self.recipe.preprocessing()
        reader = self._eval_reader if images is self.valid else self._reader(images, spec)
        fused = [
            fuse(network(self._normalised(inputs)), self.recipe.fusion_weight).float().cpu()  # (N, classes)
            for inputs, _ in reader.read(in_order(len(images)))
        ]
        return score(images, torch.cat(fused).numpy())

    def best_weights(self) -> nn.Module:
        """Return the network that is evaluated and saved: the average where the recipe has one."""
        return self.model if self.average is None else self.average.module

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to resume, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "totals": self._totals.as_dict(),
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from where ``state_dict`` was taken."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        self.epoch, self.step = state["epoch"], state["step"]
        self._totals = _Totals(**state["totals"])
        torch.set_rng_state(state["random"])

    def _average(self) -> AveragedModel | None:
        if self.recipe.averaging is None:
            return None
        average = get_ema_multi_avg_fn(self.recipe.averaging.decay)  # type: ignore[no-untyped-call]
        return AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)

    def _reader(self, images: ExpressionSet, spec: Preprocessing, crop_area: float | None = None) -> Reader:
        samples = Samples(images, spec, crop_area=crop_area, seed=self.recipe.seed)
        return Reader(samples, device=self.device, workers=self._workers)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the rest of the epoch: this process's inputs, uint8 (N, C, S, S), and targets, (N, classes)."""
        recipe = self.recipe
        spec = recipe.preprocessing(self.epoch)
        if spec.input_size not in self._readers:  # one at a time: each may hold processes and memory
            self._readers = {spec.input_size: self._reader(self.train, spec, recipe.augment.crop_area)}
        order = epoch_order(self.train.labels, recipe.seed, self.epoch, class_balance=recipe.class_balance)
        draws = [Draw(image, position, self.epoch) for position, image in enumerate(order)]
        size = recipe.batch_size
        batches = [self.world.shard(draws[at * size :][:size]) for at in range(self.step, self.steps_per_epoch)]
        return self._readers[spec.input_size].read(batches)

    def _normalised(self, images: Tensor) -> Tensor:
        """Return inputs (N, C, S, S), 0..255, as the network takes them, float32 (N, 3, S, S)."""
        normal: Tensor = self._normalise(images.to(self.device, non_blocking=True))
        return normal

    @property
    def _step_size(self) -> int:
        """Images of the current step, of all processes; the last one of an epoch may have fewer than a batch."""
        size = self.recipe.batch_size
        return min(size, len(self.train) - self.step * size)

    def _take_step(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return the step's loss, the number of correct predictions, and the number of images."""
        recipe, world = self.recipe, self.world
        lr = learning_rate(recipe.schedule, self.steps_done, steps_per_epoch=self.steps_per_epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = lr if self._lr is None else self._lr.fill_(lr)  # a graph reads it from the device
        seen = self._step_size
        seed = seed_of(recipe.seed, self.epoch, self.step)
        drawn = draw(seed, seen, slice(world.rank, None, world.size), mixup=recipe.augment.mixup)
        inputs = (x.to(self.device, non_blocking=True) for x in (images, targets, drawn))
        sums = self._step_fn(*inputs)
        if self.average is not None and recipe.averaging and (self.steps_done + 1) % recipe.averaging.update_every == 0:
            self.average.update_parameters(self.model)
        loss, correct = world.all_reduce_sum_(sums)
        return loss, correct, seen

    def _train_step(self, images: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
        """Take a step on this process's shard of a batch; return its part of the loss and correct predictions, (2,).

        Args:
            images: (N, C, S, S), values 0..255, on the device.
            targets: (N, classes).
            drawn: the step's random numbers, as ``training.data.augment.draw`` returns them.
        """
        self.optimiser.zero_grad(set_to_none=True)
        seen = self._step_size
        images, targets = augment(Batch(images, targets), self.recipe.augment, Draws(drawn))
        parts = min(self.recipe.accumulate, seen // self.world.size)  # the same in every process, none is empty
        sums = torch.zeros(2, device=self.device)
        for part, (x, y) in enumerate(zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True), 1):
            with self.world.sync_gradients(self._network, part == parts):
                sums += self._accumulate(x, y, seen)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        return sums

    def _accumulate(self, images: Tensor, targets: Tensor, step_images: float) -> Tensor:
        """Accumulate the gradients of a part of a step; return its part of the loss and correct predictions, (2,).

        Args:
            images: (N, C, S, S), values 0..255, on the device.
            targets: (N, classes).
            step_images: images in the whole step.
        """
        recipe = self.recipe
        x = self._normalised(images)
        dtype = _DTYPES[recipe.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            logits = self._network(x)
            weight = recipe.fusion_weight if recipe.loss == "weighted" else None
            adjusted = adjust_logits(logits, recipe.logit_adjustment * self._log_prior)
            loss = branch_loss(adjusted, targets, weight) * (len(images) / step_images)
        # DistributedDataParallel averages gradients, so that each process's are multiplied by their number.
        self._scaler.scale(loss * self.world.size).backward()  # type: ignore[no-untyped-call]
        predicted = fuse(logits, recipe.fusion_weight).argmax(dim=1)
        return torch.stack((loss.detach(), (predicted == targets.argmax(dim=1)).sum()))
