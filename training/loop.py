"""The training loop: steps, epochs, and what is kept so that a run can be stopped anywhere and go on."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from manet.model import MANet, fuse
from manet.tensors import normalised
from training import evaluate
from training.convolution import speed_up_tiny_maps
from training.datasets.expression_set import DatasetError, ExpressionSet
from training.loss import branch_loss
from training.recipe import Recipe
from training.schedule import learning_rate
from training.transforms import Samples, epoch_order


@dataclass(frozen=True)
class EpochResult:
    """One row of a run's log: rates in percent, losses in nats, time in seconds."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    valid_macro_recall: float
    seconds: float

    def as_row(self) -> dict[str, float | int]:
        """Return the row as the CSV holds it."""
        return {key: round(value, 5) for key, value in asdict(self).items()}


@dataclass
class _Totals:
    """What an epoch has added up so far."""

    loss: float = 0.0
    right: int = 0
    seen: int = 0
    seconds: float = 0.0


class Trainer:
    """A recipe at work on one device; ``state_dict`` holds all that a later process needs to go on.

    Args:
        recipe: what to do.
        train: the pictures to learn from.
        valid: the pictures that judge each epoch.
        device: where the network runs.
        start: parameters to begin from, under all the network's keys; None draws them from the recipe's seed.
        clock: seconds, monotonic.
        workers: processes that read and augment pictures; 0 does it between steps.

    Raises:
        DatasetError: if there are fewer training pictures than a batch holds.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: ExpressionSet,
        valid: ExpressionSet,
        *,
        device: torch.device,
        start: Mapping[str, Tensor] | None = None,
        clock: Callable[[], float] = time.monotonic,
        workers: int = 0,
    ) -> None:
        self.recipe, self.train, self.valid = recipe, train, valid
        self.device, self._clock, self._workers = device, clock, workers
        if len(train) < recipe.batch_size:
            raise DatasetError(f"{len(train)} training pictures do not fill one batch of {recipe.batch_size}")
        torch.manual_seed(recipe.seed)
        self.model = MANet(len(train.classes), wiring=recipe.wiring)
        if start is not None:
            self.model.load_state_dict(start)
        self.model.to(device).to(memory_format=torch.channels_last)
        if device.type == "cpu":
            speed_up_tiny_maps(self.model)
        self.average = self._average()
        self.optimiser = torch.optim.SGD(
            self.model.parameters(),
            lr=0.0,  # set at each step from the recipe's schedule
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
        self.steps_per_epoch = len(train) // recipe.batch_size  # a last small batch would upset BatchNorm
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

    def steps(self) -> Iterator[float]:
        """Run the rest of the current epoch, yielding the loss after each step; stop iterating at any point."""
        self.model.train()
        started = self._clock() - self._totals.seconds
        for images, targets in self._batches():
            loss, right = self._take_step(images, targets)
            self._totals.loss += loss * len(images)
            self._totals.right += right
            self._totals.seen += len(images)
            self._totals.seconds = self._clock() - started
            self.step += 1
            yield loss

    def end_epoch(self) -> EpochResult:
        """Judge the epoch on the validation pictures, begin the next one, and return the finished one's row."""
        found = self.judge()
        totals = self._totals
        result = EpochResult(
            epoch=self.epoch,
            learning_rate=self.optimiser.param_groups[0]["lr"],
            train_loss=totals.loss / totals.seen,
            train_accuracy=100 * totals.right / totals.seen,
            valid_loss=found.cross_entropy,
            valid_accuracy=found.accuracy,
            valid_macro_recall=found.macro_recall,
            seconds=totals.seconds,
        )
        self.epoch, self.step, self._totals = self.epoch + 1, 0, _Totals()
        return result

    def judge(self) -> evaluate.Evaluation:
        """Evaluate the averaged weights on the validation pictures, at the recipe's final input size."""
        network = self.best_weights().eval()
        spec = self.recipe.preprocessing()

        @torch.inference_mode()
        def classify(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            x = normalised(torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2), spec)
            fused = fuse(network(x), self.recipe.fusion_weight)  # (N, classes)
            return fused.float().cpu().numpy()

        return evaluate.score(self.valid, evaluate.run(self.valid, spec, classify))

    def best_weights(self) -> nn.Module:
        """Return the network that is judged and kept: the average where the recipe has one."""
        return self.model if self.average is None else self.average.module

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later process needs, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "totals": asdict(self._totals),
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.step = state["epoch"], state["step"]
        self._totals = _Totals(**state["totals"])
        torch.set_rng_state(state["random"])

    def _average(self) -> AveragedModel | None:
        if self.recipe.averaging is None:
            return None
        average = get_ema_multi_avg_fn(self.recipe.averaging.decay)  # type: ignore[no-untyped-call]
        return AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)

    def _batches(self) -> DataLoader[tuple[Tensor, Tensor]]:
        recipe = self.recipe
        samples = Samples(
            self.train, recipe.preprocessing(self.epoch), recipe.augment, seed=recipe.seed, epoch=self.epoch
        )
        order = epoch_order(self.train.labels, recipe.seed, self.epoch, class_balance=recipe.class_balance)
        whole = order[: self.steps_per_epoch * recipe.batch_size]
        batches = [whole[at : at + recipe.batch_size] for at in range(0, len(whole), recipe.batch_size)][self.step :]
        return DataLoader(samples, batch_sampler=batches, num_workers=self._workers)

    def _take_step(self, images: Tensor, targets: Tensor) -> tuple[float, int]:
        """Return the step's loss and how many of its pictures the network answered with their label."""
        recipe = self.recipe
        rate = learning_rate(recipe.schedule, self.steps_done, steps_per_epoch=self.steps_per_epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        x = normalised(images.to(self.device), recipe.preprocessing())
        targets = targets.to(self.device)
        logits = self.model(x)
        loss = branch_loss(logits, targets, recipe.fusion_weight)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        if self.average is not None and recipe.averaging and (self.steps_done + 1) % recipe.averaging.every == 0:
            self.average.update_parameters(self.model)
        answers = fuse(logits, recipe.fusion_weight).argmax(dim=1)
        return loss.item(), int((answers == targets.argmax(dim=1)).sum())
