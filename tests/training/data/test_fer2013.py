"""FER2013 and FER+ from their two tables: fer2013.csv, and the votes in fer2013new.csv."""

from pathlib import Path

import pytest

from testing.data_sets import VOTES, draw_fer2013, write_table
from training.data.datasets import load
from training.data.datasets.expression_set import DatasetError


def test_fer2013(tmp_path: Path) -> None:
    draw_fer2013(tmp_path)

    found = load("fer2013", tmp_path, "train")

    assert [found.classes[label] for label in found.labels] == ["happiness", "anger"]
    assert found.read(1).shape == (48, 48, 3)
    assert found.read(1).mean() == 40
    assert found.remark == "fer2013 train has 28709 images, this copy 2"


@pytest.mark.parametrize(("pixels", "complaint"), [("1 2", "found 2"), ("x " * 2304, "line 2"), ("300 " * 2304, "300")])
def test_fer2013_names_a_broken_row(tmp_path: Path, pixels: str, complaint: str) -> None:
    write_table(tmp_path / "fer2013.csv", ("emotion", "pixels", "Usage"), [[3, pixels, "Training"]])

    with pytest.raises(DatasetError, match=complaint):
        load("fer2013", tmp_path, "train")


def test_fer2013_by_the_challenge_s_name_with_blanks_in_its_header(tmp_path: Path) -> None:
    draw_fer2013(tmp_path)
    table = tmp_path / "fer2013.csv"
    table.write_text(table.read_text().replace("emotion,pixels,Usage", "emotion, pixels, Usage"))
    table.rename(tmp_path / "icml_face_data.csv")

    assert len(load("fer2013", tmp_path, "train")) == 2
    rows = [["Training", f"{i}.png", 9, *[0] * 9] for i in range(3)]
    rows[1][0] = "PublicTest"
    write_table(tmp_path / "fer2013new.csv", VOTES, rows)
    assert len(load("ferplus", tmp_path, "train")) == 2


def test_blanks_around_the_values_of_a_table_are_no_part_of_them(tmp_path: Path) -> None:
    draw_fer2013(tmp_path)
    table = tmp_path / "fer2013.csv"
    table.write_text(table.read_text().replace(",", ", ").replace("\n", " \n"))
    rows = [[usage, f" {usage}.png", 9, *[0] * 9] for usage in ("Training", "PublicTest ", " Training")]
    write_table(tmp_path / "fer2013new.csv", VOTES, rows)

    found = load("fer2013", tmp_path, "train")
    assert [found.classes[label] for label in found.labels] == ["happiness", "anger"]
    assert [path.name for path in load("ferplus", tmp_path, "train").paths] == ["Training.png", "Training.png"]


@pytest.mark.parametrize("usage", ["training", "Train", ""])
def test_a_usage_that_is_none_of_the_three_is_named(tmp_path: Path, usage: str) -> None:
    draw_fer2013(tmp_path)
    table = tmp_path / "fer2013.csv"
    table.write_text(table.read_text().replace("Training", usage))
    complaint = f"line 2: expected the Usage Training, PublicTest or PrivateTest, found '{usage}'"
    with pytest.raises(DatasetError, match=rf"fer2013\.csv, {complaint}"):
        load("fer2013", tmp_path, "valid")

    rows = [[name, "a.png", 9, *[0] * 9] for name in (usage, "PublicTest", usage)]
    write_table(tmp_path / "fer2013new.csv", VOTES, rows)
    with pytest.raises(DatasetError, match=rf"fer2013new\.csv, {complaint}"):
        load("ferplus", tmp_path, "valid")
    table.unlink()
    with pytest.raises(DatasetError, match=rf"fer2013new\.csv, {complaint}"):
        load("ferplus", tmp_path, "valid")


def test_a_table_without_a_split_says_so(tmp_path: Path) -> None:
    draw_fer2013(tmp_path)
    write_table(tmp_path / "fer2013new.csv", VOTES, [["Training", "a.png", 9, *[0] * 9]])

    with pytest.raises(DatasetError, match=r"fer2013\.csv contains no images of this split"):
        load("fer2013", tmp_path, "test")
    (tmp_path / "fer2013.csv").unlink()
    with pytest.raises(DatasetError, match=r"FER2013Test contains no images of this split"):
        load("ferplus", tmp_path, "test")


@pytest.mark.parametrize(
    ("vote", "complaint"),
    [
        ("x", "line 2: a vote is not a number"),
        ("", "not a number"),
        ("-1", "line 2: expected votes"),
        ("inf", "line 2: expected votes"),
        ("nan", "line 2: expected votes"),
        ("1e39", "line 2: expected votes"),
    ],
)
def test_ferplus_names_the_row_of_a_vote_that_is_none(tmp_path: Path, vote: str, complaint: str) -> None:
    draw_fer2013(tmp_path)
    write_table(tmp_path / "fer2013new.csv", VOTES, [["Training", "a.png", vote, *[1] * 9]])
    with pytest.raises(DatasetError, match=complaint):
        load("ferplus", tmp_path, "train")
    write_table(tmp_path / "fer2013new.csv", VOTES, [["Training", "a.png", 9]])
    with pytest.raises(DatasetError, match="line 2: fewer fields than columns"):
        load("ferplus", tmp_path, "train")


def test_ferplus_from_the_two_tables(tmp_path: Path) -> None:
    draw_fer2013(tmp_path)
    rows = [
        ["Training", "", *[0] * 9, 10],
        ["PublicTest", "fer0000001.png", 9, 1, *[0] * 8],
        ["Training", "fer0000002.png", 0, 0, 0, 0, 9, 0, 0, 0, 0, 1],
    ]
    write_table(tmp_path / "fer2013new.csv", VOTES, rows)

    found = load("ferplus", tmp_path, "train")

    assert [path.name for path in found.paths] == ["fer0000002.png"]
    assert [found.classes[label] for label in found.labels] == ["anger"]
    assert found.read(0).mean() == 40

    write_table(tmp_path / "fer2013new.csv", VOTES, rows[1:])
    with pytest.raises(DatasetError, match="differ at line 2"):
        load("ferplus", tmp_path, "train")
