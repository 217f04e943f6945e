"""A run's images are decoded once, by one process; a run that continues must have the same ones."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from training import job
from training.cli import app
from training.data import datasets
from training.data.datasets import ferplus
from training.data.datasets.expression_set import DatasetError, ExpressionSet
from training.distributed import World
from training.job import SplitCheck, TrainingJob
from training.run_dir import RunDir, RunError

ALONE = World(torch.device("cpu"))


def _ignore(line: str) -> None:
    """Drop the line."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job decides about images needs no network: the trainer is what it was given."""

    def trainer(recipe: object, *, train: ExpressionSet, valid: ExpressionSet, **more: Any) -> SimpleNamespace:
        return SimpleNamespace(recipe=recipe, train=train, valid=valid, device=more["world"].device, **more)

    monkeypatch.setattr(job, "Trainer", trainer)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The places of all images that were decoded."""
    places: list[int] = []
    read = ExpressionSet.read

    def count(self: ExpressionSet, index: int) -> object:
        places.append(index)
        return read(self, index)

    monkeypatch.setattr(ExpressionSet, "read", count)
    return places


def _new(data: Path, *, skip_broken: bool = False) -> TrainingJob:
    return TrainingJob.new("ferplus", ["batch_size=4"], data, None, None, skip_broken=skip_broken)


def _begin(folder: RunDir, data: Path, *, skip_broken: bool = False) -> Mapping[Literal["train", "eval"], SplitCheck]:
    begun = _new(data, skip_broken=skip_broken)
    trainer, checked = begun.trainer(ALONE, notify=_ignore, workers=0)
    folder.create(begun.recipe, begun.facts(trainer, checked))
    return checked


def test_a_resumed_run_uses_what_was_found_when_it_began(
    ferplus_tree: Path, tmp_path: Path, decoded: list[int]
) -> None:
    folder = RunDir(tmp_path / "run")
    broken = ferplus.load(ferplus_tree, "train").paths[3]
    broken.write_text("no image")
    checked = _begin(folder, ferplus_tree, skip_broken=True)
    assert sorted(decoded) == sorted([*range(12), *range(6)])
    facts = folder.facts()
    assert (facts["train"]["listed"], facts["train"]["n"], facts["train"]["broken"]) == (12, 11, [3])
    assert facts["eval"]["sha256"] == ferplus.load(ferplus_tree, "valid").sha256
    decoded.clear()

    trainer, again = TrainingJob.from_run(folder).trainer(ALONE, notify=_ignore, workers=0)

    assert decoded == []
    assert again == checked
    assert broken not in trainer.train.paths
    assert len(trainer.train) == 11


def test_splits_with_different_classes_are_refused(tmp_path: Path, decoded: list[int]) -> None:
    for place in ("train/happy", "train/sad", "older/valid/sad"):  # ``valid`` is found beside no ``train``
        (tmp_path / place).mkdir(parents=True)
        Image.new("L", (48, 48)).save(tmp_path / place / "a.png")
    begun = TrainingJob.new("ferplus", ["dataset='folders'", "batch_size=2"], tmp_path, None, None, skip_broken=False)

    with pytest.raises(DatasetError, match=r"train data have the classes happiness, sadness; the valid data sadness$"):
        begun.trainer(ALONE, notify=_ignore, workers=0)

    assert decoded == []


def test_missing_images_are_left_out_where_broken_ones_may_be(ferplus_tree: Path, tmp_path: Path) -> None:
    ferplus.load(ferplus_tree, "train").paths[3].unlink()
    with pytest.raises(DatasetError, match="lacks 1 of 12 images: "):
        _begin(RunDir(tmp_path / "run"), ferplus_tree)

    checked = _begin(RunDir(tmp_path / "run"), ferplus_tree, skip_broken=True)

    assert checked["train"].broken == (3,)


def test_of_several_processes_the_first_alone_decodes(
    ferplus_tree: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ferplus.load(ferplus_tree, "train").paths[3].write_text("no image")
    sent: list[object] = []

    def broadcast(objects: list[object], src: int, device: torch.device) -> None:
        assert src == 0
        if objects[0] is None:
            objects[0] = sent[0]
        else:
            sent.append(objects[0])

    monkeypatch.setattr("torch.distributed.broadcast_object_list", broadcast)
    begun = _new(ferplus_tree, skip_broken=True)
    first, found = begun.trainer(replace(ALONE, size=2), notify=_ignore, workers=0)
    assert len(decoded) == 18

    second, received = begun.trainer(replace(ALONE, size=2, rank=1), notify=_ignore, workers=0)

    assert len(decoded) == 18
    assert received == found
    assert second.train.paths == first.train.paths
    assert len(second.train) == 11


def test_a_resumed_run_refuses_other_data(ferplus_tree: Path, tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    _begin(folder, ferplus_tree)
    table = ferplus_tree / "ferplus/fer2013new.csv"
    rows = table.read_text().splitlines()

    table.write_text("\n".join(rows[:1] + rows[2:]) + "\n")  # one fewer
    with pytest.raises(DatasetError, match=r"not the train data that the run began with: expected 12 images.*found 11"):
        TrainingJob.from_run(folder).trainer(ALONE, notify=_ignore, workers=0)
    table.write_text("\n".join([rows[0], rows[1].replace(",8,0", ",0,8", 1), *rows[2:]]) + "\n")  # another label
    with pytest.raises(DatasetError, match=r"not the train data that the run began with: expected 12 .*found 12"):
        TrainingJob.from_run(folder).trainer(ALONE, notify=_ignore, workers=0)


def test_a_run_goes_on_where_its_data_moved_to(
    ferplus_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, moved = RunDir(tmp_path / "run"), tmp_path / "elsewhere/deep"
    _begin(folder, ferplus_tree)
    shutil.copytree(ferplus_tree, moved)
    shutil.rmtree(ferplus_tree)
    monkeypatch.setattr(RunDir, "restore", lambda folder, trainer: None)
    reached: list[Path] = []
    monkeypatch.setattr(
        "training.cli.train", lambda folder, trainer, *rest, **more: reached.append(trainer.train.paths[0])
    )
    counts = {"steps_per_epoch": 3, "steps_done": 0, "total_steps": 9}
    plain = vars(job)["Trainer"]  # what ``no_network`` put there
    monkeypatch.setattr(job, "Trainer", lambda *a, **k: SimpleNamespace(**vars(plain(*a, **k)), **counts))

    done = CliRunner().invoke(app, ["fit", "--resume", str(folder.path)], env={"MANET_DATA_DIR": str(moved)})
    assert isinstance(done.exception, DatasetError)  # the environment does not override a run's data
    done = CliRunner().invoke(app, ["fit", "--resume", str(folder.path), "--data", str(moved)])

    assert done.exit_code == 0, done.output
    assert reached[0].is_relative_to(moved)
    assert json.loads((folder.path / "run.json").read_text())["data"] == str(moved)
    assert CliRunner().invoke(app, ["fit", "--resume", str(folder.path)]).exit_code == 0


def test_a_folder_with_a_run_is_refused_before_anything_is_decoded(
    ferplus_tree: Path, tmp_path: Path, decoded: list[int]
) -> None:
    folder = RunDir(tmp_path / "run")
    folder.create(_new(ferplus_tree).recipe, {})

    done = CliRunner().invoke(app, ["fit", "ferplus", "--data", str(ferplus_tree), "--out", str(folder.path)])

    assert isinstance(done.exception, RunError)
    assert "contains a run already" in str(done.exception)
    assert decoded == []


def test_initial_weights_are_located_before_anything_is_decoded(
    ferplus_tree: Path, tmp_path: Path, decoded: list[int]
) -> None:
    given = ["--data", str(ferplus_tree), "--out", str(tmp_path / "run"), "--init", "none.pth"]

    assert CliRunner().invoke(app, ["fit", "ferplus", *given]).exit_code == 1
    assert decoded == []


def test_many_images_are_decoded_in_several_processes(ferplus_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ferplus.load(ferplus_tree, "train")
    for place in (2, 7):
        data.paths[place].write_text("no image")
    alone = datasets.broken(data, processes=2)
    monkeypatch.setattr(datasets, "IMAGES_PER_PROCESS", 4)
    monkeypatch.setattr(datasets, "DECODE_BATCH", 3)

    assert datasets.broken(data, processes=2) == alone
    assert list(alone) == [2, 7]


def test_names_and_labels_have_one_sha256_wherever_they_lie(ferplus_tree: Path, tmp_path: Path) -> None:
    data = ferplus.load(ferplus_tree, "train")
    moved = replace(data, paths=tuple(Path("/elsewhere") / path.name for path in data.paths))

    assert moved.sha256 == data.sha256
    assert replace(data, paths=data.paths[::-1]).sha256 != data.sha256
    assert replace(data, targets=data.targets[::-1]).sha256 != data.sha256
    assert replace(data, classes=data.classes[::-1]).sha256 != data.sha256


def test_a_time_limit_shortens_the_recipe_and_keeps_images_and_start(
    ferplus_tree: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    begins = {"conv1.weight": torch.zeros(1)}
    monkeypatch.setattr(job, "initial_state", lambda *_: begins)
    monkeypatch.setattr(job, "measure_costs", lambda trainer, workers: (trainer, workers))
    monkeypatch.setattr(job, "fit_to_limit", lambda recipe, found, seconds: recipe.model_copy(update={"epochs": 3}))
    said: list[str] = []
    begun = replace(_new(ferplus_tree), init="ferplus")

    trainer, _ = begun.trainer(ALONE, notify=said.append, workers=0, seconds=400)

    assert trainer.recipe.epochs == 3
    assert vars(trainer)["init_state"] is begins
    assert "note: 3 of 60 epochs fit in 400 s" in said
    assert len(decoded) == 12 + 6
    whole, _ = begun.trainer(ALONE, notify=said.append, workers=0)
    assert whole.recipe.epochs == 60
