"""Rows of faces in files: whole after each image, the same numbers in every format."""

import csv
import json
import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from pyarrow import parquet
from rich.console import Console

from manet.batch import sinks
from manet.batch.pipeline import Answer, Failure, Outcome
from manet.batch.records import columns, image_form
from manet.batch.sinks import ParquetFile, check_table, table
from manet.batch.terminal import TerminalTable
from manet.batch.walk import Found
from manet.labels import Expression
from manet.recognizer import RecognizedFace
from manet.vision.faces import Box, DetectedFace, Landmarks, Point
from manet.weights.registry import get

WEIGHTS = get("ferplus")
FORM = image_form(WEIGHTS)


def face(x: float, expression: Expression = Expression.FEAR) -> RecognizedFace:
    shares = {one: 0.65 if one == expression else 0.05 for one in WEIGHTS.classes}
    points = Landmarks(*[Point(x + step, 2.0) for step in range(5)])
    return RecognizedFace(DetectedFace(Box(x, 1.5, 20.0, 30.0), 0.75, points), MappingProxyType(shares))


TWO = Answer(64, 48, [face(3.25), face(40.0, Expression.ANGER)], 5, Found(Path("a, b.png")), None)
NONE = Answer(10, 20, [], 0, Found(Path("none.png")), None)
BAD = Failure(Found(Path(os.fsdecode(b"b\xffad\n.png"))), "the PNG image is truncated or corrupt")
OUTCOMES: list[Outcome] = [TWO, NONE, BAD]


def _written(path: Path) -> Path:
    sink = table(path, FORM)
    for outcome in OUTCOMES:
        sink.add(outcome)
    sink.close()
    return path


def test_csv_has_a_row_for_each_face_and_for_what_has_none(tmp_path: Path) -> None:
    with _written(tmp_path / "new/rows.csv").open(newline="", encoding="utf-8") as file:
        first, second, none, bad = csv.DictReader(file)

    assert list(first) == list(columns(WEIGHTS.classes))
    assert (first["file"], first["model"], first["faces"], first["face"]) == ("a, b.png", "ferplus", "2", "1")
    assert (first["faces_total"], none["faces_total"]) == ("5", "0")
    assert (second["face"], second["expression"], second["confidence"]) == ("2", "anger", "0.65")
    assert (float(first["x"]), float(first["width"]), float(first["nose_x"])) == (3.25, 20, 5.25)
    assert sum(float(first[f"probability_{one}"]) for one in WEIGHTS.classes) == pytest.approx(1)
    assert (none["image_width"], none["faces"], none["face"], none["expression"]) == ("10", "0", "", "")
    assert (bad["file"], bad["error"], bad["faces"]) == ("b\\xffad\n.png", BAD.reason, "")


def test_parquet_has_the_same_rows_with_types(tmp_path: Path) -> None:
    first, second, none, bad = parquet.read_table(_written(tmp_path / "rows.parquet")).to_pylist()

    assert list(first) == list(columns(WEIGHTS.classes))
    assert (second["x"], second["face"], second["probability_anger"]) == (40.0, 2, 0.65)
    assert (none["faces"], none["x"], none["error"]) == (0, None, None)
    assert (bad["file"], bad["error"], bad["faces"]) == ("b\\xffad\n.png", BAD.reason, None)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_parquet_grows_by_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParquetFile, "_ROWS", 3)

    path = _written(tmp_path / "rows.parquet")

    assert parquet.ParquetFile(path).metadata.num_row_groups == 2
    assert parquet.read_table(path).num_rows == 4


def test_json_lines_are_what_the_service_answers(tmp_path: Path) -> None:
    two, none, bad = map(json.loads, _written(tmp_path / "rows.jsonl").read_text().splitlines())

    assert [one["expression"] for one in two["faces"]] == ["fear", "anger"]
    assert (none["faces"], none["image"]) == ([], {"width": 10, "height": 20})
    assert bad == {"file": "b\\xffad\n.png", "error": BAD.reason}


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_what_grows_by_lines_is_whole_after_each_image(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    sink = table(path, FORM)
    sink.add(TWO)

    before = path.read_text()

    sink.close()
    assert before.endswith("\n")
    assert "a, b.png" in before
    assert path.read_text() == before


def test_an_old_parquet_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("old")
    sink = table(path, FORM)
    sink.add(TWO)

    assert path.read_text() == "old"

    sink.close()
    assert parquet.read_table(path).num_rows == 2


def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"expected a name in \.csv, \.jsonl, \.parquet, found rows\.xlsx"):
        check_table(tmp_path / "rows.xlsx")
    monkeypatch.setattr(sinks, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'manet\[parquet\]'"):
        check_table(tmp_path / "rows.parquet")
    check_table(tmp_path / "rows.CSV")


def test_names_in_the_terminal_are_names_and_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    sink = TerminalTable(Console(width=200))
    for name in ("[red]a.png", "\x1b[2Jb.png"):
        sink.add(Answer(1, 1, [], 0, Found(Path(name)), None))
    sink.close()

    shown = capsys.readouterr().out
    assert "[red]a.png" in shown
    assert "\\x1b[2Jb.png" in shown
    assert "\x1b[2J" not in shown


def test_a_long_table_comes_in_pages(capsys: pytest.CaptureFixture[str]) -> None:
    sink = TerminalTable(Console(width=200))
    for _ in range(501):
        sink.add(NONE)
    first = capsys.readouterr().out
    sink.close()

    assert len(first.splitlines()) == 501
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_probabilities_survive_to_the_last_bit(tmp_path: Path) -> None:
    share = float(np.float64(1) / 3)
    one = RecognizedFace(None, MappingProxyType(dict.fromkeys(WEIGHTS.classes, share)))
    answer = Answer(1, 1, [one], 1, Found(Path("a.png")), None)
    read = []
    for name in ("rows.csv", "rows.parquet"):
        sink = table(tmp_path / name, FORM)
        sink.add(answer)
        sink.close()
    with (tmp_path / "rows.csv").open() as file:
        read += [float(row["confidence"]) for row in csv.DictReader(file)]
    read += parquet.read_table(tmp_path / "rows.parquet")["confidence"].to_pylist()

    assert read == [share, share]
