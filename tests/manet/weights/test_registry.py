"""The registry of weights, and the commands about it."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from platformdirs import user_data_path
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from manet.__main__ import app, main
from manet.cli import weights as commands
from manet.errors import CheckpointError, ChecksumError, ManetError, UnknownWeightsError, WeightsNotInstalledError
from manet.files import record_sha256, sha256_of, verify_sha256
from manet.labels import CLASS_ORDERS
from manet.weights.checkpoint import load_model
from manet.weights.header import Header, read_header
from manet.weights.registry import as_installed, default_store, get, locate, names

AUTHORS = ("caer_s", "affectnet7", "affectnet8", "raf_db", "sfew")
SHIPPED_LIMIT_BYTES = 55_000_000


@pytest.fixture
def run(store: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setattr(commands, "Console", lambda: Console(width=100))
    return CliRunner()


def test_the_shipped_weights_come_first_and_the_authors_five_follow() -> None:
    assert names() == ("ferplus", *AUTHORS)
    assert [id for id in names() if get(id).shipped] == ["ferplus"]


@pytest.mark.parametrize("id", names())
def test_an_entry_is_whole(id: str) -> None:
    weights = get(id)
    assert weights.id == id
    assert weights.classes == CLASS_ORDERS[weights.dataset]
    assert 0 <= weights.fusion_weight <= 1
    assert weights.temperature > 0
    assert weights.preprocessing.input_size >= 32
    assert weights.file == f"{id}.safetensors"
    for text in (weights.licence, weights.provenance, weights.intended_use, *weights.limits):
        assert text.endswith(".")
    for figures in (*weights.measured, *weights.published):
        assert 0 < figures.accuracy < 100
        assert figures.per_class is None or len(figures.per_class) == len(weights.classes)
    json.dumps(dataclasses.asdict(weights))


@pytest.mark.parametrize("id", AUTHORS)
def test_published_figures_are_not_called_measured(id: str) -> None:
    weights = get(id)
    assert not weights.measured
    assert weights.sha256 is None
    assert len(weights.published) == 1


def test_an_entry_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        get("ferplus").temperature = 2.0  # type: ignore[misc]


def test_unknown_weights_are_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(UnknownWeightsError, match=r"'raf'; known are ferplus, caer_s, .*sfew"):
        get("raf")


def test_the_store_is_the_environments_or_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MANET_WEIGHTS_DIR", str(tmp_path))
    assert default_store() == tmp_path
    monkeypatch.delenv("MANET_WEIGHTS_DIR")
    assert default_store() == user_data_path("manet", appauthor=False) / "weights"


def test_weights_that_are_not_installed_say_how_to_install_them(store: Path, tmp_path: Path) -> None:
    for folder, expected in ((None, store), (tmp_path / "other", tmp_path / "other")):
        with pytest.raises(WeightsNotInstalledError, match="manet weights import FILE --dataset raf_db") as caught:
            locate(get("raf_db"), folder)
        assert str(expected / "raf_db.safetensors") in str(caught.value)


def test_a_file_in_the_store_counts_only_with_its_checksum(store: Path) -> None:
    store.mkdir()
    path = store / "raf_db.safetensors"
    path.write_bytes(b"numbers")
    with pytest.raises(WeightsNotInstalledError, match="no checksum beside"):
        locate(get("raf_db"))
    record_sha256(path)
    assert locate(get("raf_db")) == path


def test_shipped_weights_without_a_known_checksum_are_not_handed_out() -> None:
    with pytest.raises(WeightsNotInstalledError, match="no SHA-256 in the registry"):
        locate(dataclasses.replace(get("ferplus"), sha256=None))


def test_shipped_weights_that_are_missing_are_an_error(store: Path) -> None:
    store.mkdir()
    missing = dataclasses.replace(get("ferplus"), file="missing.safetensors", sha256="0" * 64)
    (store / "missing.safetensors").touch()  # the store is not where shipped weights come from
    with pytest.raises(WeightsNotInstalledError, match="missing from this installation"):
        locate(missing)


def test_the_shipped_file_is_what_the_registry_says() -> None:
    weights = get("ferplus")
    path = locate(weights)
    assert as_installed(weights) == weights
    assert path.stat().st_size <= SHIPPED_LIMIT_BYTES
    assert weights.sha256 is not None
    verify_sha256(path, weights.sha256)
    header = read_header(path)
    assert header is not None
    assert (header.classes, header.wiring, header.storage) == (weights.classes, weights.wiring, "int8")
    with safe_open(path, framework="numpy") as file:
        assert sum(not key.endswith("_scale") for key in file.keys()) == 692  # noqa: SIM118 - it is no dict
    assert weights.measured


def test_import_converts_a_checkpoint_that_then_loads(
    run: CliRunner, store: Path, authors_checkpoints: Mapping[str, Path]
) -> None:
    source = authors_checkpoints["seven"]
    result = run.invoke(app, ["weights", "import", str(source), "--dataset", "raf_db"])
    assert result.exit_code == 0, result.output
    path = store / "raf_db.safetensors"
    assert f"SHA-256 {sha256_of(source)}" in result.stdout
    assert f"SHA-256 {sha256_of(path)}" in result.stdout
    assert "unidirectional, inferred" in result.stdout
    assert "88.40 % on raf_db test (3,068 images) is what the authors published" in result.stderr
    assert "no one measured this file here" in result.stderr

    header = read_header(path)
    assert header is not None
    assert (header.classes, header.source_sha256) == (CLASS_ORDERS["raf_db"], sha256_of(source))
    weights = as_installed(get("raf_db"))
    assert weights == dataclasses.replace(get("raf_db"), sha256=sha256_of(path))
    state = load_model(locate(weights), num_classes=7, wiring=weights.wiring).state_dict()
    assert all(tensor.eq(k).all() for k, tensor in enumerate(state.values()))

    shown = json.loads(run.invoke(app, ["weights", "show", "raf_db", "--json"]).stdout)
    assert (shown["path"], shown["sha256"]) == (str(path), sha256_of(path))
    assert "yes" in next(line for line in run.invoke(app, ["weights", "list"]).stdout.splitlines() if "raf_db" in line)

    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    with pytest.raises(ChecksumError):
        load_model(locate(weights), num_classes=7, wiring=weights.wiring)


def test_import_takes_the_wiring_and_the_store_it_is_given(
    run: CliRunner, store: Path, tmp_path: Path, authors_checkpoints: Mapping[str, Path]
) -> None:
    other = tmp_path / "other"
    arguments = ["--dataset", "sfew", "--wiring", "bidirectional", "--store", str(other)]
    result = run.invoke(app, ["weights", "import", str(authors_checkpoints["old_format"]), *arguments])
    assert result.exit_code == 0, result.output
    assert "bidirectional, as given" in result.stdout
    assert as_installed(get("sfew"), other).wiring == "bidirectional"
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seven", "--dataset", "ferplus"], "'ferplus' are not the authors'"),
        (["seven", "--dataset", "affectnet8"], "expected 8 classes, found 7"),
        (["identities", "--dataset", "raf_db"], "expected 7 classes, found 12666"),
        (["seven", "--dataset", "rafdb"], "unknown weights 'rafdb'"),
    ],
)
def test_import_refuses_what_does_not_fit(
    run: CliRunner, store: Path, authors_checkpoints: Mapping[str, Path], arguments: list[str], message: str
) -> None:
    name, *options = arguments
    result = run.invoke(app, ["weights", "import", str(authors_checkpoints[name]), *options])
    assert isinstance(result.exception, ManetError)
    assert message in str(result.exception)
    assert not store.exists()


def test_a_store_file_with_other_classes_is_an_error(store: Path) -> None:
    header = Header(classes=CLASS_ORDERS["affectnet8"], wiring="unidirectional", provenance="")
    path = store / "raf_db.safetensors"
    store.mkdir()
    save_file({"x": torch.zeros(1)}, path, metadata=header.as_metadata())
    record_sha256(path)
    with pytest.raises(CheckpointError, match=r"expected the classes neutral, .* found neutral, .*contempt"):
        as_installed(get("raf_db"))


def test_list_shows_every_entry_and_which_copy_is_damaged(run: CliRunner, store: Path) -> None:
    store.mkdir()
    (store / "sfew.safetensors").touch()
    (store / "sfew.safetensors.sha256").write_text("nonsense")
    result = run.invoke(app, ["weights", "list"])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert set(rows) == set(names())
    assert "88.40 published" in rows["raf_db"]
    assert rows["raf_db"].rstrip().endswith("no")
    assert rows["sfew"].rstrip().endswith("damaged")


def test_an_imported_file_has_no_figure_beside_it(run: CliRunner, store: Path) -> None:
    store.mkdir()
    (store / "raf_db.safetensors").touch()
    (store / "raf_db.safetensors.sha256").write_text(f"{'0' * 64}  raf_db.safetensors\n")

    result = run.invoke(app, ["weights", "list"], env={"COLUMNS": "120"})

    [row] = [line for line in result.stdout.splitlines() if line.startswith("raf_db")]
    assert "published for the authors' file" in row
    assert "88.40" not in row
    assert row.rstrip().endswith("yes")


@pytest.mark.parametrize("id", names())
def test_show_says_every_fact(run: CliRunner, id: str) -> None:
    weights = get(id)
    shown = json.loads(run.invoke(app, ["weights", "show", id, "--json"]).stdout)
    assert set(shown) == {field.name for field in dataclasses.fields(weights)} | {"path"}
    assert shown["classes"] == list(weights.classes)
    text = " ".join(run.invoke(app, ["weights", "show", id]).stdout.split())
    for limit in weights.limits:
        assert limit in text.replace("  ", " ")
    for figures in weights.published:
        assert f"{figures.accuracy:.2f} % on {figures.dataset} {figures.split}" in text


@pytest.mark.parametrize(
    "arguments", [["weights", "show", "raf"], ["weights", "import", "no such file", "--dataset", "sfew"]]
)
def test_an_error_is_one_red_line_and_status_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["manet", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert "raf" in captured.err or "no such file" in captured.err
