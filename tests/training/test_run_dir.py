"""A run can be stopped at any step and resumes with the same results."""

import json
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.models import resnet18
from typer.testing import CliRunner

from manet.errors import CheckpointError, UnknownWeightsError
from manet.labels import CLASS_ORDERS
from manet.nn.model import MANet
from manet.nn.wiring import WIDTH
from manet.stop import Stop
from manet.weights.checkpoint import save_weights
from manet.weights.header import Header
from manet.weights.layout import layout
from testing.weights import NARROW
from training import recipe as recipes
from training.cli import app
from training.data.datasets import ferplus
from training.data.datasets.expression_set import DatasetError
from training.distributed import World, available_threads
from training.dry_run import peak_memory
from training.eval.evaluate import Evaluation
from training.fit import train
from training.init_weights import initial_state
from training.provenance import commit
from training.recipe import Averaging, Cycle, Cycles, Recipe, RecipeError
from training.run_dir import RunDir, RunError, weights_header
from training.trainer import EpochResult, Trainer

QUIET = Console(quiet=True)
ALONE = World(torch.device("cpu"))
EIGHT = CLASS_ORDERS["ferplus"]


def _header(recipe: Recipe, classes: Sequence[str] = EIGHT) -> Header:
    header = weights_header(recipe, classes, "random")
    assert header is not None
    return header


@pytest.fixture
def recipe() -> Recipe:
    schedule = Cycles(kind="cycles", cycles=(Cycle(epochs=2, max_lr=0.06, warmup=0.2),))
    small = {
        "epochs": 2,
        "epoch_sizes": (32, 40),
        "input_size": 40,
        "batch_size": 6,
        "schedule": schedule,
        "precision": "float32",
        "width": NARROW,
    }
    return recipes.load("ferplus").model_copy(update={**small, "averaging": Averaging(update_every=2, decay=0.5)})


@pytest.fixture
def wide(recipe: Recipe) -> Recipe:
    """The same for a network of the paper's width, which others' files have."""
    return recipe.model_copy(update={"width": WIDTH})


def _trainer(recipe: Recipe, data: Path) -> Trainer:
    train_set = ferplus.load(data, "train", recipe.labels)
    return Trainer(recipe, train_set, ferplus.load(data, "valid", "majority"), world=ALONE)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums in one order, so that two runs can be compared bit for bit."""
    torch.set_num_threads(1)


def test_a_run_stopped_after_every_step_equals_an_unbroken_one(
    recipe: Recipe, ferplus_tree: Path, tmp_path: Path
) -> None:
    whole = RunDir(tmp_path / "whole")
    whole.create(recipe, {})
    assert train(whole, _trainer(recipe, ferplus_tree), Stop(), QUIET, save_every=300)

    broken = RunDir(tmp_path / "broken")
    broken.create(recipe, {})
    stop = Stop()
    stop.asked = True  # each call takes one step, saves and returns
    starts = 0
    finished = False
    while not finished:
        trainer = _trainer(broken.recipe(), ferplus_tree)
        broken.restore(trainer)
        finished = train(broken, trainer, stop, QUIET, save_every=300)
        starts += 1

    assert starts > 4  # two steps an epoch, two epochs
    expected = load_file(whole.path / "last.safetensors")
    for key, value in load_file(broken.path / "last.safetensors").items():
        assert torch.equal(value, expected[key]), key
    drop_seconds = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.rows()] for run in (whole, broken)]
    assert drop_seconds[0] == drop_seconds[1]
    assert (whole.path / "curve.png").stat().st_size > 1000


def test_sizes_that_a_cpu_convolves_wrongly_in_bf16_are_refused(recipe: Recipe, ferplus_tree: Path) -> None:
    with pytest.raises(RecipeError, match="40 px in bf16 gives wrong numbers on a CPU"):
        _trainer(recipe.model_copy(update={"precision": "bf16"}), ferplus_tree)


def test_fewer_images_than_a_batch_are_an_error(recipe: Recipe, ferplus_tree: Path) -> None:
    with pytest.raises(DatasetError, match="12 training images do not fill one batch of 13"):
        _trainer(recipe.model_copy(update={"batch_size": 13}), ferplus_tree)


def test_a_run_killed_between_log_and_checkpoint_logs_no_epoch_twice(
    recipe: Recipe, ferplus_tree: Path, tmp_path: Path
) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create(recipe, {})
    trainer = _trainer(recipe, ferplus_tree)
    for _ in trainer.steps():
        pass
    folder.save(trainer)
    ended = trainer.end_epoch()
    assert ended is not None
    folder.add_epoch(ended, trainer)  # killed here, before the next checkpoint

    again = _trainer(recipe, ferplus_tree)
    folder.restore(again)
    assert train(folder, again, Stop(), QUIET, save_every=300)

    assert [row["epoch"] for row in folder.rows()] == [0, 1]


def test_a_run_goes_on_on_another_device_with_its_random_state(
    recipe: Recipe, ferplus_tree: Path, tmp_path: Path
) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create(recipe, {})
    data = ferplus.load(ferplus_tree, "train", recipe.labels)
    with torch.device("meta"):  # stands for a GPU: where the random state must not be
        trainer = Trainer(recipe, data, data, world=World(torch.device("meta")))
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    folder.save(trainer)
    torch.manual_seed(6)

    folder.restore(trainer)

    assert torch.equal(torch.get_rng_state(), expected)


class _Holder(Trainer):
    """A trainer that takes any state; what it raises is what PyTorch would."""

    def __init__(self, state: dict[str, Any], error: Exception | None = None) -> None:
        self._state, self._error = state, error

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._error is not None:
            raise self._error


def test_a_checkpoint_that_is_cut_off_or_another_run_s_is_refused(tmp_path: Path) -> None:
    folder, trainer = RunDir(tmp_path), _Holder({"model": torch.zeros(1000)})
    folder.save(trainer)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: expected a checkpoint of this run.*fc_1"):
        folder.restore(_Holder({}, RuntimeError("Error(s) in loading state_dict:\n\tMissing key fc_1" + "x" * 9000)))

    folder.checkpoint.write_bytes(folder.checkpoint.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: expected a PyTorch checkpoint"):
        folder.restore(trainer)


def test_of_equal_epochs_the_first_is_the_best(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, kept = RunDir(tmp_path), []
    monkeypatch.setattr(folder, "_weights", lambda name, result, trainer: kept.append((name, result.epoch)))
    monkeypatch.setattr("training.run_dir.draw_curve", lambda *arguments: None)
    monkeypatch.setattr("training.run_dir.draw_confusion", lambda *arguments: None)
    trainer = cast(Trainer, SimpleNamespace(recipe=recipe, train=SimpleNamespace(classes=EIGHT)))
    for epoch in range(2):
        # 86.1206627...: the log rounds it down, and the second is not better than the first for that.
        found = Evaluation(3199, 100 * 2755 / 3199, 50.0, {}, np.zeros((8, 8), np.int64), 1.0)
        folder.add_epoch(EpochResult(epoch, 0.1, 1.0, 50.0, found, 1.0), trainer)

    assert kept == [("last", 0), ("best", 0), ("last", 1)]
    assert json.loads((tmp_path / "best.json").read_text())["epoch"] == 0


def test_temporary_files_of_a_killed_run_are_removed_at_the_next_start(tmp_path: Path) -> None:
    folder, world = RunDir(tmp_path), World(torch.device("cpu"))
    for name in ("checkpoint.pt", "log.csv", "best.safetensors"):
        killed = "import os, sys; from pathlib import Path; from manet.files import atomic_write\n"
        killed += "atomic_write(Path(sys.argv[1]), lambda part: (part.write_text('half'), os._exit(9)))"
        done = subprocess.run([sys.executable, "-c", killed, str(tmp_path / name)], check=False)
        assert done.returncode == 9
    (tmp_path / ".mine.txt").write_text("kept")
    assert len(list(tmp_path.iterdir())) == 4
    finished = SimpleNamespace(world=world, epoch=2, finished=True, total_steps=4, steps_done=4)
    finished.recipe = SimpleNamespace(epochs=2)

    assert train(folder, cast(Trainer, finished), Stop(), QUIET, save_every=300)

    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.txt", "tensorboard"]


def test_a_machine_without_git_knows_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert commit() is not None
    monkeypatch.setenv("PATH", str(tmp_path))

    assert commit() is None


def test_cpus_are_counted_where_no_affinity_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")

    assert available_threads({}) >= 1
    assert available_threads({"LOCAL_WORLD_SIZE": "1000"}) == 1


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_peak_memory_is_reported_where_it_is_known(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", platform)
    said = peak_memory(torch.device("cpu"))

    assert said == "unknown on this platform" if platform == "win32" else said.endswith("GB peak so far")


def test_a_folder_with_a_run_is_not_overwritten(recipe: Recipe, tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    folder.create(recipe, {})

    with pytest.raises(RunError, match="--resume"):
        folder.create(recipe, {})


def test_sigterm_saves_and_stops(ferplus_tree: Path, tmp_path: Path) -> None:
    # Two images repeated make an epoch long enough to be interrupted.
    rows = (ferplus_tree / "ferplus/fer2013new.csv").read_text().splitlines()
    training = [row for row in rows if row.startswith("Training")]
    (ferplus_tree / "ferplus/fer2013new.csv").write_text("\n".join([*rows, *training * 200]) + "\n")
    out = tmp_path / "run"
    command = [sys.executable, "-m", "training", "fit", "ferplus", "--data", str(ferplus_tree), "--out", str(out)]
    command += ["--set", f"width={NARROW}", "--set", "batch_size=4", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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


def test_a_run_starts_from_given_weights(recipe: Recipe, ferplus_tree: Path, tmp_path: Path) -> None:
    given = MANet(8, wiring=recipe.wiring, width=NARROW)
    path = tmp_path / "start.safetensors"
    save_weights(given, path, _header(recipe))
    train_set = ferplus.load(ferplus_tree, "train", recipe.labels)

    trainer = Trainer(recipe, train_set, train_set, world=ALONE, init_state=initial_state(str(path), recipe, EIGHT))

    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, given.state_dict()[key]), key


def test_an_authors_checkpoint_gives_all_but_its_heads(wide: Recipe, authors_checkpoints: Mapping[str, Path]) -> None:
    begun = initial_state(str(authors_checkpoints["seven"]), wide, EIGHT)

    assert begun["fc_1.weight"].shape == (8, 512)


def test_a_state_dict_alone_gives_all_but_its_heads(
    wide: Recipe, authors_checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    whole = initial_state(str(authors_checkpoints["seven"]), wide, EIGHT)
    torch.save({f"module.{key}": value for key, value in whole.items()}, tmp_path / "bare.pth")

    begun = initial_state(str(tmp_path / "bare.pth"), wide, EIGHT)

    assert begun["layer4_2.0.conv1.weight"].eq(whole["layer4_2.0.conv1.weight"]).all()


def test_initial_weights_that_do_not_exist_are_an_error(recipe: Recipe) -> None:
    with pytest.raises(CheckpointError, match=r"^nowhere\.pth: expected a file, found none"):
        initial_state("nowhere.pth", recipe, EIGHT)
    with pytest.raises(UnknownWeightsError, match="unknown weights 'raf', and no such file; known are ferplus, "):
        initial_state("raf", recipe, EIGHT)


def test_a_run_s_folder_is_refused_as_initial_weights_and_its_best_file_named(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"found a folder; of a run give .*best\.safetensors"):
        initial_state(str(tmp_path), recipe, EIGHT)


def test_weights_of_other_classes_give_all_but_their_heads(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    given = MANet(7, wiring=recipe.wiring, width=NARROW)
    save_weights(given, path, _header(recipe, CLASS_ORDERS["raf_db"]))

    begun = initial_state(str(path), recipe, EIGHT)

    assert begun["fc_1.weight"].shape == (8, 8 * NARROW)
    assert torch.equal(begun["layer4_2.0.conv1.weight"], given.state_dict()["layer4_2.0.conv1.weight"])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_backbone_gives_the_layers_before_the_branches(wide: Recipe, tmp_path: Path, suffix: str) -> None:
    given = resnet18().state_dict()
    path = tmp_path / f"resnet18{suffix}"
    save_file(given, path) if suffix == ".safetensors" else torch.save(given, path)

    begun = initial_state(str(path), wide, EIGHT)

    assert set(begun) == set(layout(8))
    same = {key for key, value in begun.items() if key in given and torch.equal(value, given[key])}
    assert {key.split(".")[0] for key in same} == {"conv1", "bn1", "layer1", "layer2"}
    for key in same:
        assert begun[key].shape == given[key].shape


def test_weights_of_another_width_are_refused(recipe: Recipe, wide: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "narrow.safetensors"
    save_weights(MANet(8, wiring=recipe.wiring, width=NARROW), path, _header(recipe))

    with pytest.raises(CheckpointError, match="expected a network of width 64, found 8"):
        initial_state(str(path), wide, EIGHT)


def test_a_file_that_is_no_backbone_is_refused(wide: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 3, 3)}, path)

    with pytest.raises(CheckpointError, match=r"not a ResNet-18: conv1\.weight: expected \(64, 3, 7, 7\)"):
        initial_state(str(path), wide, EIGHT)


def _command(tree: Path, out: Path) -> list[str]:
    """A whole run of two epochs of two steps, which keeps a checkpoint of every step."""
    own = out.with_suffix(".toml")
    shipped = files("training").joinpath("recipes/ferplus.toml").read_text()
    own.write_text(shipped.partition("[averaging]")[0])  # half the checkpoint
    fields = ("epochs=2", "epoch_sizes=[32, 32]", "input_size=32", "batch_size=6", f"width={NARROW}")
    schedule = "schedule.cycles=[{epochs=2, max_lr=0.05, warmup=0.2}]"
    changes = [word for field in (*fields, schedule) for word in ("--set", field)]
    start = [sys.executable, "-m", "training", "fit", str(own), "--data", str(tree), "--out", str(out)]
    return [*start, *changes, "--threads", "1", "--save-every", "0"]


def test_a_run_killed_at_any_moment_ends_with_the_same_weights(ferplus_tree: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(_command(ferplus_tree, whole), check=True, capture_output=True)

    command, kills = _command(ferplus_tree, killed), 0
    resume = [*command[:4], "--resume", str(killed), *command[-4:]]
    for lines in (2, 1):  # after so many words the kill comes, wherever the run is then
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            time.sleep(0.02)
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        command = resume
    subprocess.run(command, check=True, capture_output=True)

    assert kills == 2
    expected = load_file(whole / "last.safetensors")
    for key, value in load_file(killed / "last.safetensors").items():
        assert torch.equal(value, expected[key]), key
    seconds = [[{k: v for k, v in row.items() if k != "seconds"} for row in RunDir(f).rows()] for f in (whole, killed)]
    assert seconds[0] == seconds[1]


def test_a_run_leaves_metrics_plots_and_tensorboard_events(recipe: Recipe, ferplus_tree: Path, tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create(recipe, {})
    assert train(folder, _trainer(recipe, ferplus_tree), Stop(), QUIET, save_every=300)

    best = json.loads((folder.path / "best.json").read_text())
    assert best["accuracy"] == pytest.approx(max(row["valid_accuracy"] for row in folder.rows()), abs=1e-3)
    assert sum(map(sum, best["confusion"])) == 6
    for image in ("curve.png", "confusion.png"):
        with Image.open(folder.path / image) as drawn:
            assert drawn.width > 300
    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    shown = [(event.step, round(event.value, 3)) for event in events.Scalars("valid_accuracy")]
    assert shown == [(row["epoch"], round(row["valid_accuracy"], 3)) for row in folder.rows()]


def test_identities_are_learned_and_used_as_initial_weights(tmp_path: Path) -> None:
    for person in ("ann", "bob", "cy"):
        (tmp_path / "people" / person).mkdir(parents=True)
        for i in range(20):
            grey = np.full((40, 40, 3), 60 * len(person), np.uint8)
            Image.fromarray(grey).save(tmp_path / "people" / person / f"{i:02}.png")
    out = tmp_path / "run"
    small = ["--set", "epochs=1", "--set", "input_size=32", "--set", "batch_size=32", "--set", f"width={NARROW}"]
    command = ["fit", "identity", "--data", str(tmp_path / "people"), "--out", str(out), *small, "--threads", "1"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output

    recipe = recipes.load("raf_db", ["wiring='unidirectional'", f"width={NARROW}"])
    begun = initial_state(str(out / "last.safetensors"), recipe, CLASS_ORDERS["raf_db"])
    learned = load_file(out / "last.safetensors")
    assert learned["fc_1.bias"].shape == (3,)
    assert begun["fc_1.bias"].shape == (7,)
    assert torch.equal(begun["conv1.weight"], learned["conv1.weight"])
    assert "identity stage" not in done.output


@pytest.mark.parametrize(
    "fields",
    [
        ["accumulate=3"],
        ["precision='bf16'\ninput_size=48\nepoch_sizes=[32, 48]"],
        ["loss='sum'"],
        ["last_batch='keep'"],
    ],
)
def test_every_way_to_take_a_step_learns(fields: list[str], recipe: Recipe, ferplus_tree: Path) -> None:
    changed = recipe.model_validate(recipe.model_dump() | tomllib.loads(fields[0]) | {"batch_size": 8})
    trainer = _trainer(changed, ferplus_tree)

    losses = list(trainer.steps())

    assert len(losses) == (2 if changed.last_batch == "keep" else 1)
    assert all(0 < loss < 20 for loss in losses)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trainer.model.parameters())
    state = trainer.state_dict()
    assert state["step"] == len(losses)
    assert 0 < trainer.waited < state["totals"]["seconds"]
    assert state["totals"]["seen"] == (12 if changed.last_batch == "keep" else 8)
