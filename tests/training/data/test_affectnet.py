"""AffectNet, from its CSV files and from its folders of .npy files."""

from pathlib import Path

import numpy as np
import pytest

from testing.data_sets import AFFECTNET_COLUMNS, draw_image, write_table
from training.data.datasets import load
from training.data.datasets.expression_set import DatasetError


def test_affectnet_by_its_csv_crops_the_faces(affectnet_csv: Path) -> None:
    eight = load("affectnet8", affectnet_csv, "train")
    seven = load("affectnet7", affectnet_csv, "train")

    assert [eight.classes[label] for label in eight.labels] == ["anger", "contempt"]
    assert [seven.classes[label] for label in seven.labels] == ["anger"]
    assert eight.read(0).shape == (12, 10, 3)
    assert eight.read(0).mean() > 230
    assert eight.remark is not None
    assert "has 287651 images" in eight.remark
    assert seven.remark is not None
    assert "has 283901 images" in seven.remark


def test_affectnet_refuses_a_face_outside_its_image(affectnet_csv: Path) -> None:
    write_table(affectnet_csv / "training.csv", AFFECTNET_COLUMNS, [["1/0.jpg", 90, 6, 10, 12, "", 6, 0, 0]])

    with pytest.raises(DatasetError, match="is outside the image"):
        load("affectnet7", affectnet_csv, "train").read(0)


def test_affectnet_in_npy_files(tmp_path: Path) -> None:
    for name, label in (("12", 3), ("7", 7), ("8", 9)):
        draw_image(tmp_path / f"train_set/images/{name}.jpg")
        (tmp_path / "train_set/annotations").mkdir(parents=True, exist_ok=True)
        # The owners ship the number as text in an array without dimensions.
        np.save(tmp_path / f"train_set/annotations/{name}_exp.npy", np.array(str(label)))

    found = load("affectnet8", tmp_path, "train")

    assert [(path.stem, found.classes[label]) for path, label in zip(found.paths, found.labels, strict=True)] == [
        ("12", "surprise"),
        ("7", "contempt"),
    ]


@pytest.mark.parametrize("place", ["inf", "-inf", "nan", "1e999", "x", ""])
def test_affectnet_refuses_a_face_at_no_place(affectnet_csv: Path, place: str) -> None:
    write_table(affectnet_csv / "training.csv", AFFECTNET_COLUMNS, [["1/0.jpg", place, 6, 10, 12, "", 6, 0, 0]])

    with pytest.raises(DatasetError, match=r"training\.csv, line 2: "):
        load("affectnet7", affectnet_csv, "train")


@pytest.mark.parametrize("label", ["-1", "happy", -1, [1, 2], 3.7, -0.5, np.inf, np.nan, True, np.longdouble("3.5")])
def test_affectnet_refuses_what_is_no_label(tmp_path: Path, label: object) -> None:
    draw_image(tmp_path / "train_set/images/1.jpg")
    (tmp_path / "train_set/annotations").mkdir(parents=True)
    np.save(tmp_path / "train_set/annotations/1_exp.npy", np.array(label))

    with pytest.raises(DatasetError, match=r"1_exp\.npy contains no label"):
        load("affectnet8", tmp_path, "train")
    for content in (b"", b"PK\3\4 no archive"):
        (tmp_path / "train_set/annotations/1_exp.npy").write_bytes(content)
        with pytest.raises(DatasetError, match=r"1_exp\.npy contains no label"):
            load("affectnet8", tmp_path, "train")


@pytest.mark.parametrize("label", ["3", b"3", 3, 3.0, [3]])
def test_affectnet_reads_a_label_of_any_type(tmp_path: Path, label: object) -> None:
    draw_image(tmp_path / "train_set/images/1.jpg")
    (tmp_path / "train_set/annotations").mkdir(parents=True)
    np.save(tmp_path / "train_set/annotations/1_exp.npy", np.array(label))
    (tmp_path / "train_set/annotations/._1_exp.npy").write_text("a resource fork")

    assert load("affectnet8", tmp_path, "train").labels.tolist() == [3]


def test_affectnet_refuses_a_label_below_0_in_its_csv(affectnet_csv: Path) -> None:
    write_table(affectnet_csv / "training.csv", AFFECTNET_COLUMNS, [["1/0.jpg", 4, 6, 10, 12, "", -1, 0, 0]])

    with pytest.raises(DatasetError, match="line 2: expected an expression of 0 or more, found -1"):
        load("affectnet8", affectnet_csv, "train")
