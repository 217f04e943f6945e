"""Pipeline: a plan's parts through a Ray cluster: faces found on processors, the network in a pool of its own.

Every part is one row on its way. Ray Data keeps few of them under way, so memory is bounded whatever the number of
pictures; it starts actors where there is room, and a part again whose actor died.
"""

import logging
import os
import pickle
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from manet.backends import Device, Logits, load_backend
from manet.errors import OfflineRunError
from manet.offline.attempt import Attempt
from manet.offline.part import Done, answer, find, place
from manet.offline.plan import Job, Plan, planned
from manet.pictures import PictureLimits
from manet.preprocess import Pixels
from manet.recognizer import Recognizer
from manet.retinaface import RetinaFaceDetector
from manet.weights import resolve

_MOST_BLOCKS = 10_000
"""Ray Data keeps a note of every block in the driver; beyond so many parts, some share a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the actors reserve.

    Attributes:
        find_cpus: CPUs of one that reads pictures and finds faces.
        network_cpus: CPUs of one that runs the network, and, rounded up, its threads.
        network_gpus: GPUs of one that runs the network.
        device: where the network runs.
        store: folder of imported weights, on every machine; None means the default one.
        cache: folder of exported networks, on every machine; None means the platform's place.
    """

    find_cpus: float = 0.6
    network_cpus: float = 0.4
    network_gpus: float = 0.0
    device: Device = "auto"
    store: Path | None = None
    cache: Path | None = None


class _Elsewhere:
    """The network of a process that only finds faces."""

    name = precision = device = reason = "elsewhere"

    def warmup(self, batch_sizes: object) -> None:
        raise AssertionError("the network is in another process")

    def infer(self, images: Pixels) -> Logits:
        raise AssertionError("the network is in another process")

    def close(self) -> None:
        """There is nothing to let go of."""


class Finder:
    """Reads a part's pictures and finds their faces; an actor.

    Args:
        folder: of the answers.
        resources: tell where imported weights are.
        run: what tells this run from others.
    """

    def __init__(self, folder: Path, resources: Resources, run: str) -> None:
        self._folder = folder
        self._run = run
        self._plan = Plan(folder)
        self._job = self._plan.job
        weights = resolve(self._job.weights, resources.store)
        self._recognizer = Recognizer(weights, _Elsewhere(), RetinaFaceDetector())

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield each part that is not done yet, with what was seen in it."""
        for number in batch["part"].tolist():
            if not place(self._folder, number).exists():
                attempt = Attempt(self._folder / f".part-{number:09d}.notes", self._run)
                seen = find(self._plan.part(number), self._job, self._recognizer, PictureLimits(), attempt)
                yield {"part": np.array([number]), "seen": np.array([pickle.dumps(seen)], dtype=object)}


class Network:
    """Runs the network on a part's faces and writes its answers; an actor.

    Args:
        folder: of the answers.
        resources: tell what it may use.
    """

    def __init__(self, folder: Path, resources: Resources) -> None:
        self._folder = folder
        job = Plan(folder).job
        weights = resolve(job.weights, resources.store)
        if weights.sha256 != job.sha256:
            raise OfflineRunError(f"the weights {job.weights} on this machine are not those that the run began with")
        backend = load_backend(
            weights,
            device=resources.device,
            threads=ceil(resources.network_cpus),
            store=resources.store,
            cache=resources.cache,
        )
        self._recognizer = Recognizer(weights, backend, RetinaFaceDetector())

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what each part's file holds."""
        for number, seen in zip(batch["part"].tolist(), batch["seen"], strict=True):
            done = answer(number, pickle.loads(seen), self._recognizer, self._folder)
            yield {name: np.array([value]) for name, value in asdict(done).items()}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        parts: of the plan.
        finished: of those, by this run or an earlier one.
        last: what was finished last; None before this run has finished any.
    """

    parts: int
    finished: int
    last: Done | None


def predict_at_scale(
    job: Job, out: Path, *, resources: Resources, address: str | None, report: Callable[[Progress], None]
) -> None:
    """Answer every picture of a job into a folder of Parquet files; go on where an earlier run of it was ended.

    All machines of the cluster must see the sources and the folder under the same paths.

    Args:
        job: which pictures, and what is asked of them.
        out: the folder; absolute.
        resources: what the actors reserve.
        address: of the Ray cluster; None takes the one that RAY_ADDRESS names or that runs here, or starts one here.
        report: is told at the beginning and after each part.

    Raises:
        OfflineRunError: if the folder holds answers to something else, there is no picture at all, or parts failed.
        OSError: if a source cannot be read, or the plan not be written.
    """
    plan = planned(job, out)
    missing = _missing(plan, out)
    finished = len(plan) - len(missing)
    report(Progress(len(plan), finished, None))
    if missing:
        with _connected(address):
            for done in _answers(missing, out, resources):
                finished += 1
                report(Progress(len(plan), finished, done))
    if missing := _missing(plan, out):
        raise OfflineRunError(f"{len(missing)} of {len(plan)} parts failed, such as number {missing[0]}; run it again")
    for left in out.glob(".part-*"):  # by runs that were killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _missing(plan: Plan, out: Path) -> list[int]:
    there = {path.name for path in out.glob("part-*.parquet")}
    return [number for number in range(len(plan)) if place(out, number).name not in there]


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
    ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _answers(numbers: Sequence[int], out: Path, resources: Resources) -> Iterator[Done]:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a part that fails ends itself alone
    parts = ray.data.from_items(
        [{"part": number} for number in numbers], override_num_blocks=min(len(numbers), _MOST_BLOCKS)
    )
    seen = parts.map_batches(
        Finder,
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1),
        fn_constructor_args=(out, resources, uuid.uuid4().hex),
        num_cpus=resources.find_cpus,
    )
    done = seen.map_batches(
        Network,
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1),
        fn_constructor_args=(out, resources),
        num_cpus=resources.network_cpus,
        num_gpus=resources.network_gpus,
    )
    for row in done.iter_rows():
        yield Done(**row)
