"""Packed sets: one file that is loaded as the folder was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from training.cli import app
from training.data.datasets import load, packed
from training.data.datasets.expression_set import DatasetError


@pytest.fixture
def file(ferplus_tree: Path, tmp_path: Path) -> Path:
    """The small FER+ tree as a packed file."""
    out = tmp_path / "ferplus.npz"
    arguments = ["pack-data", "ferplus", "--data", str(ferplus_tree), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.parametrize(
    ("split", "labels"),
    [("train", "majority"), ("train", "distribution"), ("train", "all_votes"), ("valid", "majority")],
)
def test_a_packed_set_is_the_set(ferplus_tree: Path, file: Path, split: str, labels: str) -> None:
    plain, found = (load("ferplus", data, split, labels) for data in (ferplus_tree, file))  # type: ignore[arg-type]

    assert [path.name for path in found.paths] == [path.name for path in plain.paths]
    assert np.array_equal(found.targets, plain.targets)
    assert found.classes == plain.classes
    assert found.protocol == plain.protocol
    assert found.sha256 == plain.sha256
    assert all(np.array_equal(found.read(i), plain.read(i)) for i in range(len(plain)))


def test_splits_with_different_classes_are_not_packed(ferplus_tree: Path, tmp_path: Path) -> None:
    train, valid = load("ferplus", ferplus_tree, "train"), load("ferplus", ferplus_tree, "valid")
    other = replace(valid, classes=valid.classes[::-1])

    with pytest.raises(DatasetError, match=r"have the classes neutral, .*; the valid data contempt, "):
        packed.save({"train": {"majority": train}, "valid": {"majority": other}}, tmp_path / "out.npz")


def test_what_is_not_packed_is_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"contains ferplus: .*valid/majority; not ferplus: test/majority"):
        load("ferplus", file, "test")
    with pytest.raises(DatasetError, match="not raf_db: train/majority"):
        load("raf_db", file, "train")
    (broken := tmp_path / "broken.npz").write_bytes(file.read_bytes()[:100])
    with pytest.raises(DatasetError, match="cannot be read as a packed set"):
        load("ferplus", broken, "train")
    with pytest.raises(DatasetError, match="cannot be read as a packed set"):
        load("ferplus", tmp_path / "missing.npz", "train")


def test_colour_images_are_not_packed(ferplus_tree: Path, tmp_path: Path) -> None:
    data = load("ferplus", ferplus_tree, "train")
    red = np.zeros((48, 48, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(data.paths[2])

    with pytest.raises(DatasetError, match=f"{data.paths[2].name} is not grey"):
        packed.save({"train": {"majority": data}}, tmp_path / "out.npz")
