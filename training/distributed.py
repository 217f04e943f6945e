"""Distributed training: the processes that train one network, one per device, as ``torchrun`` starts them."""

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

TIMEOUT = timedelta(hours=1)
"""How long a process waits for the others. It must cover the main process's evaluation of an epoch, and its decoding
of a whole data set."""


@dataclass(frozen=True, slots=True)
class World:
    """This process's rank among all processes.

    Attributes:
        device: where this process runs the network.
        rank: its number, from 0; rank 0 is the main process.
        size: the number of processes.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which evaluates, logs and saves."""
        return self.rank == 0

    def shard(self, batch: Sequence[Item]) -> list[Item]:
        """Return this process's part of a batch; the parts differ by one image at most."""
        return list(batch[self.rank :: self.size])

    def all_reduce_sum(self, *numbers: float) -> tuple[float, ...]:
        """Return the sums of the processes' numbers."""
        if self.size == 1:
            return numbers
        return tuple(self.all_reduce_sum_(torch.tensor(numbers, dtype=torch.float64, device=self.device)).tolist())

    def all_reduce_sum_(self, numbers: Tensor) -> Tensor:
        """Return the sum of the processes' tensors, computed in place."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """Return in all processes what ``make`` returns in the main one; the others do not call it.

        The result is sent as a pickle.
        """
        sent = [make() if self.is_main else None]
        if self.size > 1:
            dist.broadcast_object_list(sent, src=0, device=self.device)
        return cast(T, sent[0])

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the network with its gradients averaged and its BatchNorm statistics taken over all processes.

        The network's own modules are changed in place, so that its ``state_dict`` keeps its keys.
        """
        if self.size == 1:
            return model
        synchronise_batch_norm(model)
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, forward_sync_buffers=False)

    def sync_gradients(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Return a context in which gradients are averaged after the backward pass, if it is the step's last one."""
        if isinstance(network, DistributedDataParallel) and not last:
            return cast(AbstractContextManager[None], network.no_sync())
        return nullcontext()


@contextmanager
def init_distributed(environment: Mapping[str, str]) -> Iterator[World]:
    """Join the process group that ``torchrun`` started, or run as a single process without it.

    Processes communicate over NCCL on GPUs, each on its own GPU, and over gloo on CPUs.

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
    dist.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    try:
        yield World(device, int(environment["RANK"]), int(environment["WORLD_SIZE"]))
    finally:
        dist.destroy_process_group()


def available_threads(environment: Mapping[str, str]) -> int:
    """Return how many CPU threads each process on this machine may use without oversubscribing its cores."""
    return max(1, available_cpus() // int(environment.get("LOCAL_WORLD_SIZE", "1")))


def default_workers(device: torch.device, environment: Mapping[str, str]) -> int:
    """Return how many worker processes read images: the cores that the main thread leaves, none on a CPU.

    Args:
        device: where the network runs; on a CPU workers would take its cores.
        environment: as for ``init_distributed``; processes on one machine share its cores.
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


def synchronise_batch_norm(model: nn.Module) -> None:
    """Make every BatchNorm of a network take its statistics over all processes, in place.

    On CPUs this is ``SynchronisedBatchNorm``; on GPUs PyTorch's, which has not been measured with this project yet.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            weight = child.weight
            if weight.device.type == "cuda":
                setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]
            else:
                child.__class__ = SynchronisedBatchNorm
        else:
            synchronise_batch_norm(child)
