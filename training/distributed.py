"""World: the processes that train one network together, one for each device, as ``torchrun`` starts them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from manet.cpus import available_cpus
from training.ops import set_arithmetic

T = TypeVar("T")

Item = TypeVar("Item")

PATIENCE = timedelta(hours=1)
"""How long a process waits for the others, which must cover the first one's judging of an epoch, and its decoding
of a whole data set."""


@dataclass(frozen=True, slots=True)
class World:
    """One process's place among all.

    Attributes:
        device: where this process runs the network.
        rank: its number, from 0; the first one judges, logs and saves.
        size: how many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process judges, logs and saves."""
        return self.rank == 0

    def share(self, batch: Sequence[Item]) -> list[Item]:
        """Return this process's part of a batch; the parts differ by one image at most."""
        return list(batch[self.rank :: self.size])

    def total(self, *numbers: float) -> tuple[float, ...]:
        """Return the sums of the processes' numbers."""
        if self.size == 1:
            return numbers
        return tuple(self.sum(torch.tensor(numbers, dtype=torch.float64, device=self.device)).tolist())

    def sum(self, numbers: Tensor) -> Tensor:
        """Return the sum of the processes' tensors, made in place."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what ``make`` gives in the first process, in all of them; the others do not call it.

        What it gives is sent as a pickle.
        """
        sent = [make() if self.first else None]
        if self.size > 1:
            dist.broadcast_object_list(sent, src=0, device=self.device)
        return cast(T, sent[0])

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the network with its gradients averaged and its BatchNorm statistics taken over all processes.

        The network's own modules are changed in place, so that its ``state_dict`` keeps its keys.
        """
        if self.size == 1:
            return model
        synchronise(model)
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, forward_sync_buffers=False)

    def together(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Return a context in which gradients are averaged after the backward pass, if it is a step's last one."""
        if isinstance(network, DistributedDataParallel) and not last:
            return cast(AbstractContextManager[None], network.no_sync())
        return nullcontext()


@contextmanager
def joined(environment: Mapping[str, str]) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, or stand alone where it did not.

    Processes talk over NCCL on GPUs, each on its own, and over gloo on CPUs.

    Args:
        environment: holds torchrun's variables (``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``) where there are several.
    """
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in environment:
        device = torch.device("cuda" if cuda else "cpu")
        set_arithmetic(device)
        yield World(device)
        return
    device = torch.device("cuda", int(environment["LOCAL_RANK"])) if cuda else torch.device("cpu")
    set_arithmetic(device)
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield World(device, int(environment["RANK"]), int(environment["WORLD_SIZE"]))
    finally:
        dist.destroy_process_group()


def available_threads(environment: Mapping[str, str]) -> int:
    """Return how many CPU threads each process on this machine may use without getting in the others' way."""
    return max(1, available_cpus() // int(environment.get("LOCAL_WORLD_SIZE", "1")))


def default_readers(device: torch.device, environment: Mapping[str, str]) -> int:
    """Return how many processes read images for this one: the cores that its own thread leaves, none on a CPU.

    Args:
        device: where the network runs; on a CPU readers would take its cores.
        environment: as for ``joined``; processes on one machine share the cores out.
    """
    return max(1, available_threads(environment) - 1) if device.type != "cpu" else 0


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the maps of all processes; PyTorch's own, SyncBatchNorm, runs on GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised maps (N, C, H, W); outside training, as BatchNorm2d does."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None  # noqa: PT018
        assert self.momentum is not None and self.num_batches_tracked is not None  # noqa: PT018
        maps = x.to(self.running_mean.dtype)  # statistics of bf16 maps are float32, as in BatchNorm2d
        count = torch.full((1,), maps.numel() / maps.shape[1], dtype=maps.dtype)
        sums: Tensor = _Sum.apply(torch.cat([maps.sum(dim=(0, 2, 3)), count]))  # (C + 1,)
        n = sums[-1].detach()
        mean = (sums[:-1] / n)[None, :, None, None]  # (1, C, 1, 1)
        squares: Tensor = _Sum.apply((maps - mean).square().sum(dim=(0, 2, 3)))  # (C,)
        variance = squares / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_(squares / (n - 1), self.momentum)
        scale = (self.weight * (variance + self.eps).rsqrt())[None, :, None, None]
        return ((maps - mean) * scale + self.bias[None, :, None, None]).to(x.dtype)


def synchronise(model: nn.Module) -> None:
    """Make every BatchNorm of a network take its statistics over all processes, in place.

    On CPUs this is our own; on GPUs PyTorch's, which nobody has measured with this project yet.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            weight = child.weight
            if weight.device.type == "cuda":
                setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]
            else:
                child.__class__ = SynchronisedBatchNorm
        else:
            synchronise(child)
