"""Errors of data, weights, recipes and runs: one red line and exit status 2."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training import recipe as recipes
from training.cli import main
from training.run_dir import COLUMNS, RunDir

Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must be refused; gives the line that says why."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["manet-train", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        captured = capsys.readouterr()
        [*notes, line] = captured.err.splitlines()
        assert all(note.startswith("note: ") for note in notes)
        assert captured.out == ""
        return line

    return run


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    """A run of which nothing was trained yet."""
    found = RunDir(tmp_path / "run")
    part = {"split": "x", "n": 1, "protocol": "p", "listed": 1, "sha256": "0", "broken": []}
    facts: dict[str, Any] = {
        "recipe": "ferplus",
        "changes": [],
        "data": str(tmp_path),
        "duplicates": None,
        "init": None,
    }
    machine = {"processor": "abacus", "cores": 1, "torch": "2"}
    rest = {"processes": 1, "device": "cpu", "started": "now", "commit": None, "machine": machine}
    found.create(
        recipes.load("ferplus"),
        {**facts, **rest, "skip_broken": False, "teachers": [], "train": part, "eval": dict(part)},
    )
    return found


def test_weights_of_other_classes(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "valid/happy").mkdir(parents=True)
    (tmp_path / "valid/happy/a.png").write_text("never read")

    line = refused("evaluate", "--dataset", "folders", "--data", tmp_path, "--weights", "ferplus")

    assert line == (
        "weights 'ferplus' have the classes neutral, happiness, surprise, sadness, anger, disgust, fear, contempt; "
        "folders has happiness"
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "run.json is not JSON"),
        (b"\xff\xfe{", "run.json is not JSON"),
        ("[]", "run.json lacks recipe"),
        ('{"recipe": "ferplus"}', "run.json lacks changes"),
    ],
)
def test_a_broken_run_json(refused: Refused, folder: RunDir, content: str | bytes, complaint: str) -> None:
    (folder.path / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())

    assert complaint in refused("fit", "--resume", folder.path)


def test_a_broken_recipe_json(refused: Refused, folder: RunDir) -> None:
    (folder.path / "recipe.json").write_text('{"dataset": "ferplus"}')

    assert "recipe.json: labels: Field required" in refused("fit", "--resume", folder.path)


def test_a_folder_without_a_run(refused: Refused, tmp_path: Path) -> None:
    assert "contains no run: it lacks run.json" in refused("fit", "--resume", tmp_path)
    assert "contains no run" in refused("report", tmp_path, "--out", tmp_path / "report")
    assert "contains no run" in refused("pack", tmp_path, "--out", tmp_path / "x", "--provenance", "x")


@pytest.mark.parametrize("log", ["epoch\n1\n", f"{','.join(COLUMNS)}\n1,2\n", f"{','.join(COLUMNS)}\n{'x,' * 7}x\n"])
def test_a_broken_log(refused: Refused, folder: RunDir, log: str) -> None:
    folder.log.write_text(log)

    assert "log.csv" in refused("report", folder.path, "--out", folder.path.parent / "report")


@pytest.mark.parametrize(
    ("evaluation", "complaint"), [("{", "is not JSON"), ("{}", "lacks accuracy, "), ("7", "lacks")]
)
def test_what_is_no_evaluation(refused: Refused, folder: RunDir, evaluation: str, complaint: str) -> None:
    folder.log.write_text(f"{','.join(COLUMNS)}\n{','.join('0' * len(COLUMNS))}\n")
    result = folder.path.parent / "valid.json"
    result.write_text(evaluation)

    assert complaint in refused("report", folder.path, "--out", folder.path.parent / "report", "--evaluation", result)


@pytest.mark.parametrize("option", ["--appendix", "--readme"])
def test_a_text_that_is_not_utf_8(refused: Refused, folder: RunDir, option: str) -> None:
    folder.log.write_text(f"{','.join(COLUMNS)}\n{','.join('0' * len(COLUMNS))}\n")
    text = folder.path.parent / "text.md"
    text.write_bytes("# Größe".encode("utf-16"))

    command = ("report", folder.path, "--out", folder.path.parent / "report", option, text)

    line = refused(*command)

    assert line.endswith("text.md is not UTF-8 text; if it is UTF-16, save it as UTF-8")
    text.unlink()
    assert refused(*command).endswith("text.md is missing")


def test_a_recipe_that_is_no_file_or_no_text(refused: Refused, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    command = ("fit", own, "--data", tmp_path, "--out", tmp_path / "run")
    assert refused(*command).endswith("own.toml is missing")
    own.write_text("seed = 1", encoding="utf-16")
    assert refused(*command).endswith("own.toml is not UTF-8 text; if it is UTF-16, save it as UTF-8")


def test_a_cut_off_file_of_weights(refused: Refused, ferplus_tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    path.write_bytes(b"\x08\x00\x00")
    given = ("--data", ferplus_tree, "--out", tmp_path / "run", "--init", path)

    assert "half.safetensors: expected a safetensors file" in refused("fit", "ferplus", *given)
    assert "half.safetensors: expected a safetensors file" in refused(
        "evaluate", "--dataset", "ferplus", "--data", ferplus_tree, "--weights", path
    )


def test_initial_weights_that_do_not_exist(refused: Refused, ferplus_tree: Path, tmp_path: Path) -> None:
    given = ("fit", "ferplus", "--data", ferplus_tree, "--out", tmp_path / "run", "--init")

    assert refused(*given, tmp_path / "none.pth").endswith("none.pth: expected a file, found none")
    assert refused(*given, "rafdb").startswith("unknown weights 'rafdb', and no such file; known are ferplus, ")
