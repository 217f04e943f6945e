"""Reports say what the logs say, and the README's table is made of them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training import recipe as recipes
from training.cli import app
from training.eval.published import PublishedRun
from training.eval.report import BEGIN, END, ReportError, report, rewrite_table, table
from training.run_dir import RunDir

ROOT = Path(__file__).parents[3]
COLUMNS = "epoch,learning_rate,train_loss,train_accuracy,valid_cross_entropy,valid_accuracy,valid_macro_recall,seconds"


def _run(path: Path, accuracies: list[float], recipe: str = "raf_db", seed: int = 1) -> RunDir:
    folder = RunDir(path)
    facts = {
        "recipe": recipe,
        "changes": [] if seed == 1 else [f"seed={seed}"],
        "data": "/somewhere/else",
        "init": "/somewhere/identity/best.safetensors",
        "train": {"n": 12_271, "protocol": "aligned faces"},
        "eval": {"split": "test", "n": 3_068, "protocol": "aligned faces"},
        "processes": 1,
        "device": "cuda",
        "arithmetic": {"tf32": True, "cudnn_benchmark": True},
        "started": "2026-01-01T00:00:00+00:00",
        "commit": "abc",
        "machine": {"processor": "abacus", "cores": 1, "torch": "2"},
    }
    folder.create(recipes.load(recipe, [f"seed={seed}"]), facts)
    rows = [f"{i},0.1,1.0,50.0,1.0,{accuracy},{accuracy - 5},360" for i, accuracy in enumerate(accuracies)]
    folder.log.write_text("\n".join([COLUMNS, *rows]) + "\n")
    return folder


def test_best_last_and_the_mean_of_ten_stand_beside_the_authors(tmp_path: Path) -> None:
    run = _run(tmp_path / "first", [70.0, 90.0, *[80.0] * 9, 81.0])

    made = report([run], [], [], tmp_path / "reports/raf_db")

    found = json.loads((tmp_path / "reports/raf_db/report.json").read_text())
    [ours] = found["runs"]
    assert (ours["best"], ours["best_epoch"], ours["last"], ours["mean_of_last_ten"]) == (90.0, 1, 81.0, 80.1)
    assert (ours["macro_recall_of_best"], ours["hours"], ours["seed"]) == (85.0, 1.2, 1)
    assert found["authors"]["best"] == pytest.approx(88.396)
    assert found["seeds"] == []
    text = made.read_text()
    assert "| the authors' published log | 88.40 @ 29 | 88.00 | 87.97 |" in text
    assert "| `first` | 90.00 @ 1 | 81.00 | 80.10 | 85.00 | 3,068 test | 1 | 1.2 |" in text
    assert "- 1 process(es) on cuda, tf32, cudnn benchmark; abacus, 1 cores, torch 2" in text
    assert "/somewhere" not in text + json.dumps(found)
    assert (tmp_path / "reports/raf_db/first/log.csv").read_text() == run.log.read_text()


def test_runs_that_differ_by_their_seed_are_averaged(tmp_path: Path) -> None:
    runs = [_run(tmp_path / str(seed), [80.0 + seed], seed=seed) for seed in (1, 2, 3)]

    found = json.loads((report(runs, [], [], tmp_path / "out").parent / "report.json").read_text())

    [group] = found["seeds"]
    assert group["seeds"] == [1, 2, 3]
    assert group["best"] == {"mean": 82.0, "sd": 1.0}


def test_of_equal_epochs_the_first_is_the_best(tmp_path: Path) -> None:
    made = report([_run(tmp_path / "a", [80.0, 86.5, 86.5, 81.0])], [], [], tmp_path / "out")

    assert "| `a` | 86.50 @ 1 |" in made.read_text()
    assert PublishedRun("raf_db", (80.0, 86.5, 86.5, 81.0)).best_epoch == 1


def test_one_report_is_on_one_data_set(tmp_path: Path) -> None:
    runs = [_run(tmp_path / "a", [80.0]), _run(tmp_path / "b", [60.0], recipe="sfew")]
    with pytest.raises(ReportError, match="not on raf_db, sfew"):
        report(runs, [], [], tmp_path / "out")


def test_a_run_without_an_epoch_has_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="not finished an epoch"):
        report([_run(tmp_path / "a", [])], [], [], tmp_path / "out")


def test_the_table_separates_reproduced_sets_from_missing_ones(tmp_path: Path) -> None:
    run, readme = _run(tmp_path / "first", [88.5, 88.1]), tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    command = ["report", str(run.path), "--out", str(tmp_path / "reports/raf_db"), "--readme", str(readme)]

    done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.output
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| data set |")
    assert text.endswith(f"{END}\nafter\n")
    assert "| RAF-DB | 88.40 @ 29 | 88.50 @ 0 | 87.97, 88.30 |" in text
    assert "| SFEW 2.0 | 59.40 @ 40 | - | 58.19, - | awaits the data" in text
    with pytest.raises(ReportError, match="lacks the line"):
        rewrite_table(tmp_path / "first/log.csv", tmp_path)


def test_the_readme_shows_the_reports_of_this_repository() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"{BEGIN}\n{table(ROOT / 'training/reports')}\n{END}" in readme
