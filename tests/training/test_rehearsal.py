"""A dry run says what a run will take, and leaves nothing behind."""

from pathlib import Path

from typer.testing import CliRunner

from training.__main__ import app


def test_a_dry_run_speaks_of_counts_steps_memory_and_time(ferplus_tree: Path, tmp_path: Path) -> None:
    fields = ("epochs=3", "epoch_sizes=[32, 32, 48]", "input_size=48", "batch_size=6")
    schedule = "schedule.cycles=[{epochs=3, peak=0.05, warmup=0.2}]"
    changes = [word for field in (*fields, schedule) for word in ("--set", field)]
    before = sorted(tmp_path.rglob("*"))

    done = CliRunner().invoke(app, ["fit", "ferplus", "--data", str(ferplus_tree), *changes, "--dry-run"])

    assert done.exit_code == 0, done.output
    for words in (
        "12 training pictures (majority of votes",
        "6 valid pictures judge each epoch",
        "neutral 4, happiness 4, surprise 0, sadness 0, anger 4",
        "2 an epoch of 6 pictures, 6 in all",
        "at 32 px:",
        "2 epochs",
        "at 48 px:",
        "GB at most so far",
        "the whole run: 0:0",
    ):
        assert words in done.output
    assert sorted(tmp_path.rglob("*")) == before


def test_a_recipe_that_begins_from_another_says_so(ferplus_tree: Path) -> None:
    small = ["--set", "input_size=32", "--set", "batch_size=6", "--set", "epoch_sizes=[32]", "--set", "epochs=1"]
    schedule = ["--set", "schedule.cycles=[{epochs=1, peak=0.05, warmup=0.2}]"]
    command = ["fit", "ferplus_refine", "--data", str(ferplus_tree), *small, *schedule, "--dry-run"]

    done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.output
    assert "begins from what the recipe ferplus ends with" in done.output


def test_what_to_train_must_be_said() -> None:
    done = CliRunner().invoke(app, ["fit", "ferplus"])

    assert done.exit_code == 2
    assert "give a RECIPE with --data and --out" in done.output
