"""A run can be stopped anywhere and goes on as if nothing had happened."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from manet.checkpoint import save_weights
from manet.errors import UnknownWeightsError
from manet.model import MANet
from training import recipe as recipes
from training.datasets import ferplus
from training.datasets.expression_set import DatasetError
from training.initial import start
from training.loop import Trainer
from training.recipe import Averaging, Cycle, Cycles, Recipe
from training.run import RunFolder, Stop, train, weights_header

QUIET = Console(quiet=True)


@pytest.fixture
def recipe() -> Recipe:
    schedule = Cycles(kind="cycles", cycles=(Cycle(epochs=2, peak=0.06, warmup=0.2),))
    small = {"epochs": 2, "epoch_sizes": (32, 40), "input_size": 40, "batch_size": 6, "schedule": schedule}
    return recipes.load("ferplus").model_copy(update={**small, "averaging": Averaging(every=2, decay=0.5)})


def _trainer(recipe: Recipe, data: Path) -> Trainer:
    train_set = ferplus.load(data, "train", recipe.labels)
    return Trainer(recipe, train_set, ferplus.load(data, "valid", "majority"), device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums in one order, so that two runs can be compared bit for bit."""
    torch.set_num_threads(1)


def test_a_run_stopped_after_every_step_equals_an_unbroken_one(
    recipe: Recipe, ferplus_tree: Path, tmp_path: Path
) -> None:
    whole = RunFolder(tmp_path / "whole")
    whole.create(recipe, {})
    assert train(whole, _trainer(recipe, ferplus_tree), Stop(), QUIET)

    broken = RunFolder(tmp_path / "broken")
    broken.create(recipe, {})
    stop = Stop()
    stop.asked = True  # each call takes one step, saves and returns
    starts = 0
    finished = False
    while not finished:
        trainer = _trainer(broken.recipe(), ferplus_tree)
        broken.restore(trainer)
        finished = train(broken, trainer, stop, QUIET)
        starts += 1

    assert starts > 4  # two steps an epoch, two epochs
    expected = load_file(whole.path / "last.safetensors")
    for key, value in load_file(broken.path / "last.safetensors").items():
        assert torch.equal(value, expected[key]), key
    drop_seconds = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.rows()] for run in (whole, broken)]
    assert drop_seconds[0] == drop_seconds[1]
    assert (whole.path / "curve.png").stat().st_size > 1000


def test_fewer_pictures_than_a_batch_are_an_error(recipe: Recipe, ferplus_tree: Path) -> None:
    with pytest.raises(DatasetError, match="12 training pictures do not fill one batch of 13"):
        _trainer(recipe.model_copy(update={"batch_size": 13}), ferplus_tree)


def test_a_run_killed_between_log_and_checkpoint_logs_no_epoch_twice(
    recipe: Recipe, ferplus_tree: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(recipe, {})
    trainer = _trainer(recipe, ferplus_tree)
    for _ in trainer.steps():
        pass
    folder.save(trainer)
    folder.add(trainer.end_epoch(), trainer)  # killed here, before the next checkpoint

    again = _trainer(recipe, ferplus_tree)
    folder.restore(again)
    assert train(folder, again, Stop(), QUIET)

    assert [row["epoch"] for row in folder.rows()] == [0, 1]


def test_a_folder_with_a_run_is_not_overwritten(recipe: Recipe, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create(recipe, {})

    with pytest.raises(FileExistsError, match="--resume"):
        folder.create(recipe, {})


def test_sigterm_saves_and_stops(ferplus_tree: Path, tmp_path: Path) -> None:
    # Two pictures repeated make an epoch long enough to be interrupted.
    rows = (ferplus_tree / "ferplus/fer2013new.csv").read_text().splitlines()
    training = [row for row in rows if row.startswith("Training")]
    (ferplus_tree / "ferplus/fer2013new.csv").write_text("\n".join([*rows, *training * 200]) + "\n")
    out = tmp_path / "run"
    command = [sys.executable, "-m", "training", "fit", "ferplus", "--data", str(ferplus_tree), "--out", str(out)]
    with subprocess.Popen([*command, "--threads", "1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        assert "training" in first_line
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 0

    assert "stopped and saved" in rest
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert state["step"] > 0
    assert state["epoch"] == 0


def test_a_run_begins_from_given_weights(recipe: Recipe, ferplus_tree: Path, tmp_path: Path) -> None:
    given = MANet(8, wiring=recipe.wiring)
    path = tmp_path / "start.safetensors"
    save_weights(given, path, weights_header(recipe, "random"))
    train_set = ferplus.load(ferplus_tree, "train", recipe.labels)

    trainer = Trainer(recipe, train_set, train_set, device=torch.device("cpu"), start=start(str(path), recipe))

    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, given.state_dict()[key]), key


def test_an_authors_checkpoint_gives_all_but_its_heads(recipe: Recipe, authors_checkpoints: Mapping[str, Path]) -> None:
    begun = start(str(authors_checkpoints["seven"]), recipe)

    assert begun["fc_1.weight"].shape == (8, 512)


def test_weights_to_begin_from_that_do_not_exist_are_an_error(recipe: Recipe) -> None:
    with pytest.raises(UnknownWeightsError, match=r"nowhere\.pth"):
        start("nowhere.pth", recipe)
