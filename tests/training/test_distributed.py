"""Several processes that train one network follow the one that trains it alone."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from testing.data_sets import draw_ferplus_tree
from testing.weights import NARROW
from training.distributed import World, init_distributed

STEPS = 20
PROGRAM = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
from training import recipe as recipes
from training.data.datasets import ferplus
from training.distributed import init_distributed
from training.trainer import Trainer
from training.recipe import Step

torch.set_num_threads(1)  # other tests use the processors, too
torch.set_default_dtype(torch.float64)
recipe = recipes.load("ferplus", ["augment.mixup=0.0"])  # which mixes the images of one process
recipe = recipe.model_copy(update={
    "precision": "float32", "batch_size": 12, "epoch_sizes": None, "input_size": 64, "width": 8,
    "schedule": Step(kind="step", lr=0.001, step_size=20, gamma=1.0), "averaging": None})
data = Path(sys.argv[1])
with init_distributed(os.environ) as world:
    images = ferplus.load(data, "train", "distribution")
    images = replace(images, targets=images.targets.astype(np.float64))

    def run(accumulate, steps):
        trainer = Trainer(recipe.model_copy(update={"accumulate": accumulate}), images, images, world=world)
        trainer.model.register_forward_pre_hook(lambda module, arguments: (arguments[0].double(),))
        losses = []
        while len(losses) < steps:
            losses.extend(map(float, trainer.steps()))
            trainer.end_epoch()
        return {"losses": losses, "size": world.size, "running": trainer.model.bn1.running_var.tolist()}

    found = {accumulate: run(int(accumulate), int(steps)) for accumulate, steps in map(str.split, sys.argv[3:])}
    if world.is_main:
        Path(sys.argv[2]).write_text(json.dumps(found))
"""


def _runs(tree: Path, out: Path, processes: int, *runs: str) -> dict[str, Any]:
    """Return what came of each run, by its ``accumulate``; a run is that and its steps, such as ``2 20``."""
    if processes == 1:
        command = [sys.executable, "-c", PROGRAM]
    else:
        script = out.with_suffix(".py")
        script.write_text(PROGRAM)
        options = ["--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, "-m", "torch.distributed.run", *options, str(script)]
    done = subprocess.run(
        [*command, tree, out, *runs], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two runs of two processes; to start these takes longer than the runs."""
    folder = tmp_path_factory.mktemp("together")
    return _runs(draw_ferplus_tree(folder), folder / "found.json", 2, f"1 {STEPS}", "2 2")


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_follow_the_losses_of_one(together: dict[str, Any], ferplus_tree: Path, tmp_path: Path) -> None:
    # In double precision. In single, rounding alone parts two runs: one process whose first weights are changed by one
    # part in ten million is 0.03 away from itself after seven such steps.
    alone = _runs(ferplus_tree, tmp_path / "alone.json", 1, f"1 {STEPS}")["1"]
    together = together["1"]

    assert together["size"] == 2
    assert len(alone["losses"]) == STEPS
    assert together["losses"] == pytest.approx(alone["losses"], abs=1e-3)
    assert together["running"] == pytest.approx(alone["running"], rel=1e-3)
    assert max(alone["losses"]) - min(alone["losses"]) > 0.1  # there was something to follow


@pytest.mark.slow
@pytest.mark.long
def test_processes_may_accumulate_too(together: dict[str, Any]) -> None:
    found = together["2"]

    assert found["size"] == 2
    assert len(found["losses"]) == 2
    assert all(0 < loss < 20 for loss in found["losses"])


@pytest.mark.slow
@pytest.mark.long
def test_a_run_of_two_processes_writes_one_folder_and_goes_on_alone(ferplus_tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fields = ("epochs=2", "epoch_sizes=[32, 32]", "input_size=32", "batch_size=6", f"width={NARROW}")
    schedule = "schedule.cycles=[{epochs=2, max_lr=0.05, warmup=0.2}]"
    changes = [word for field in (*fields, schedule) for word in ("--set", field)]
    command = ["--standalone", "--nproc-per-node=2", "-m", "training", "fit", "ferplus"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *command, "--data", ferplus_tree, "--out", out, *changes],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    assert done.stdout.count("2 steps per epoch") == 1
    with (out / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    facts = json.loads((out / "run.json").read_text())
    assert facts["processes"] == 2
    again: list[str | Path] = [sys.executable, "-m", "training", "fit", "--resume", out]
    assert "finished" in subprocess.run(again, capture_output=True, text=True, check=True).stdout


def test_shards_of_a_batch_differ_by_one_at_most() -> None:
    batch = list(range(11))
    shards = [World(torch.device("cpu"), rank, 3).shard(batch) for rank in range(3)]

    assert sorted(image for shard in shards for image in shard) == batch
    assert {len(shard) for shard in shards} == {3, 4}


def test_a_single_process_is_not_wrapped() -> None:
    network = nn.Linear(2, 2)
    with init_distributed({}) as world:
        assert world.wrap(network) is network
        assert world.all_reduce_sum(1, 2.5) == (1, 2.5)
