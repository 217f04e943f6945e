"""Pipeline: a plan's parts through a Ray cluster: faces found on processors, the network in a pool of its own.

Every part is one row on its way. Ray Data keeps few of them under way, so memory is bounded whatever the number of
images; it starts actors where there is room, and a part again whose actor died.
"""

import logging
import os
import pickle
import shutil
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError, RayTaskError

from manet.errors import OfflineRunError
from manet.offline.attempt import Attempt
from manet.offline.loading import REAL, Loaders, Resources
from manet.offline.part import FinishedPart, answer, find, place
from manet.offline.plan import NAME, Job, Plan, planned
from manet.recognizer import Recognizer
from manet.vision.images import ImageLimits

_WAVE = 10_000
"""Parts given to Ray Data at once, each a block of its own: it keeps a note of every block in the driver."""

_MOST_FAILED = 20
"""Parts of a wave that may fail while the others are finished; with one more the run is given up."""


class _Actor:
    """What both actors are given.

    They load nothing until they have begun a part: a process that ends while its actor is made is begun again without
    end, and an actor whose constructor raises is never replaced (https://github.com/ray-project/ray/issues/62746).

    Args:
        folder: of the answers.
        resources: where imported weights are, and what the network may use.
        loaders: load what it needs.
        run: id of this run.
    """

    def __init__(self, folder: Path, resources: Resources, loaders: Loaders, run: str) -> None:
        self._folder = folder
        self._resources = resources
        self._loaders = loaders
        self._run = run

    @cached_property
    def _plan(self) -> Plan:
        return Plan(self._folder)


class Finder(_Actor):
    """Reads a part's images and finds their faces."""

    @cached_property
    def _recognizer(self) -> Recognizer:
        return self._loaders.finder(self._plan.job, self._resources)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield each part with what was seen in it."""
        for number in batch["part"].tolist():
            attempt = Attempt(self._folder / f".part-{number:09d}.notes", self._run)
            part, job = self._plan.part(number), self._plan.job
            seen = find(part, job, self._recognizer, ImageLimits(), attempt)
            yield {"part": np.array([number]), "seen": np.array([pickle.dumps(seen)], dtype=object)}


class Network(_Actor):
    """Runs the network on a part's faces and writes its answers."""

    @cached_property
    def _recognizer(self) -> Recognizer:
        return self._loaders.network(self._plan.job, self._resources)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what each part's file holds."""
        for number, seen in zip(batch["part"].tolist(), batch["seen"], strict=True):
            attempt = Attempt(self._folder / f".part-{number:09d}.network.notes", self._run)
            done = answer(number, pickle.loads(seen), self._recognizer, self._folder)
            attempt.ended()
            yield {name: np.array([value]) for name, value in asdict(done).items()}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        parts: of the plan.
        finished: of those, by this run or an earlier one.
        last: what was finished last; None before this run has finished any.
        passed_over: files that the plan does not have, by kind; only in the first report of the run that made the plan.
    """

    parts: int
    finished: int
    last: FinishedPart | None
    passed_over: Counter[str] = field(default_factory=Counter)


def predict_at_scale(
    job: Job,
    out: Path,
    *,
    resources: Resources,
    address: str | None,
    report: Callable[[Progress], None],
    loaders: Loaders = REAL,
) -> None:
    """Answer every image of a job into a folder of Parquet files; go on where an earlier run of it was ended.

    All machines of the cluster must see the sources and the folder under the same paths. What the job leaves open of
    the network is decided once, by one machine of the cluster, and stands in the plan: all answers are of one engine
    and one number format.

    Args:
        job: which images, and what is asked of them.
        out: the folder; absolute.
        resources: what the actors reserve.
        address: of the Ray cluster; None takes the one that RAY_ADDRESS names or that runs here, or starts one here.
        report: is called at the beginning and after each part.
        loaders: what the actors load.

    Raises:
        OfflineRunError: if the folder holds answers to something else, there is no image at all, the network
            requested is not to be had, or parts failed.
        OSError: if a source cannot be read, or the plan not be written.
    """
    with ExitStack() as cluster:
        if (out / NAME).exists():
            job = job.as_in(Plan(out).job)
        else:
            cluster.enter_context(_connected(address))
            job = _settled(job, resources, loaders)
        passed_over = Counter[str]()
        plan = planned(job, out, passed_over)
        missing = _missing(plan, out)
        finished = len(plan) - len(missing)
        report(Progress(len(plan), finished, None, passed_over))
        if missing:
            cluster.enter_context(_connected(address))
        for done in _answers(missing, out, resources, loaders):
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
    # A cluster that is started here reports to no one. With reports off, the process of Ray's dashboard still asks the
    # metadata servers of three clouds where it runs (seen with 2.60). No option leaves it out, but Ray does without it
    # where its port is taken, and logs that as an error.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ray.init(
            address,
            include_dashboard=False,
            dashboard_host="127.0.0.1",
            dashboard_port=taken.getsockname()[1],
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _settled(job: Job, resources: Resources, loaders: Loaders) -> Job:
    """Return the job as a machine decides it on which the network may run."""
    decide = ray.remote(num_cpus=resources.network_cpus, num_gpus=resources.network_gpus)(loaders.settled)
    try:
        settled: Job = ray.get(decide.remote(job, resources))
    except RayError as error:
        raise OfflineRunError(f"no machine has such a network: {_why(error)}") from error
    return settled


def _answers(numbers: Sequence[int], out: Path, resources: Resources, loaders: Loaders) -> Iterator[FinishedPart]:
    run = uuid.uuid4().hex
    for first in range(0, len(numbers), _WAVE):
        yield from _wave(numbers[first : first + _WAVE], out, resources, loaders, run)


def _wave(
    numbers: Sequence[int], out: Path, resources: Resources, loaders: Loaders, run: str
) -> Iterator[FinishedPart]:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = min(_MOST_FAILED, len(numbers) - 1)  # where all of them fail, the reason is reported
    parts = ray.data.from_items([{"part": number} for number in numbers], override_num_blocks=len(numbers))
    seen = parts.map_batches(
        Finder,
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1),
        fn_constructor_args=(out, resources, loaders, run),
        num_cpus=resources.find_cpus,
    )
    done = seen.map_batches(
        Network,
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1),
        fn_constructor_args=(out, resources, loaders, run),
        num_cpus=resources.network_cpus,
        num_gpus=resources.network_gpus,
    )
    try:
        for row in done.iter_rows():
            yield FinishedPart(**row)
    except (RayError, ExecutionTimeoutError) as error:
        raise OfflineRunError(f"the run was given up, for too many parts failed, the last: {_why(error)}") from error


def _why(error: Exception) -> str:
    """Return what happened in one line; Ray's own text has the whole traceback of another process."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return next(iter(str(cause).splitlines()), type(cause).__name__)
