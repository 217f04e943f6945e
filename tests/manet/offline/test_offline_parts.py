"""Plan, attempt and part: what is asked of whom, without a cluster and with a network that tests can foretell."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from manet.errors import OfflineRunError
from manet.offline.attempt import MOST_BEGUN, Attempt
from manet.offline.loading import Resources, network, settled
from manet.offline.part import answer, find, place
from manet.offline.plan import ImageFiles, Job, Plan, TableRows, planned
from manet.recognizer import Recognizer
from manet.vision.formats import UNSUPPORTED
from manet.vision.images import ImageLimits
from testing.fakes import GREEN, NO_FACE, RED, RED_FACE, WEIGHTS, encode, paint, recognizer

TWO_FACES = encode(paint((255, 0, 0), (0, 255, 0)))


def _job(*sources: Path, **choices: Any) -> Job:
    standard: dict[str, Any] = {
        "weights": "ferplus",
        "sha256": None,
        "faces": "detect",
        "max_faces": 2,
        "part_images": 3,
        "column": "image",
        "name_column": None,
    }
    return Job(sources=tuple(map(str, sources)), **{**standard, **choices})


def _parts(plan: Plan) -> list[ImageFiles | TableRows]:
    return [plan.part(number) for number in range(len(plan))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images, two tables of five and two rows, and what is none of them."""
    folder = tmp_path / "in"
    for name in ("a/1.jpg", "a/2.PNG", "b/3.webp", "4.jpg", "5.jpg", "6.jpg", b"7\xff.jpg", ".8.jpg", "9.txt"):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(RED_FACE)
    images = pyarrow.table({"image": [RED_FACE] * 5, "id": [f"id{row}" for row in range(5)]})
    parquet.write_table(images, folder / "one.parquet", row_group_size=4)
    parquet.write_table(images.slice(0, 2), folder / "b" / "two.parquet")
    parquet.write_table(images, folder / "_hidden.parquet")
    return folder


def test_every_image_is_in_one_part(folder: Path, tmp_path: Path) -> None:
    parts = _parts(planned(_job(folder), tmp_path / "out"))

    files = [path for part in parts if isinstance(part, ImageFiles) for path in part.paths]
    rows = [(part.table.name, part.row + n) for part in parts if isinstance(part, TableRows) for n in range(part.count)]
    assert len(files) == len(set(files)) == 7
    assert os.fsdecode(b"7\xff.jpg") in {path.name for path in files}
    assert sorted(rows) == [*(("one.parquet", row) for row in range(5)), ("two.parquet", 0), ("two.parquet", 1)]
    assert max(len(part.paths) if isinstance(part, ImageFiles) else part.count for part in parts) == 3


def test_a_plan_stands_whatever_comes_into_the_folder_later(folder: Path, tmp_path: Path) -> None:
    before = _parts(planned(_job(folder), tmp_path / "out"))
    (folder / "0.jpg").write_bytes(RED_FACE)

    assert _parts(planned(_job(folder), tmp_path / "out")) == before


def test_what_is_not_read_is_counted_when_the_plan_is_made(folder: Path, tmp_path: Path) -> None:
    passed_over, again = Counter[str](), Counter[str]()

    planned(_job(folder), tmp_path / "out", passed_over)
    planned(_job(folder), tmp_path / "out", again)

    assert +passed_over == {".txt": 1, "hidden": 1}
    assert not again


def test_a_folder_that_is_called_like_a_table_is_one_of_tables(tmp_path: Path) -> None:
    names = ["part-0.parquet", "part-1.parquet"]
    for name in names:
        path = tmp_path / "in" / "faces.parquet" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table({"image": [RED_FACE]}), path)

    for number, source in enumerate((tmp_path / "in", tmp_path / "in" / "faces.parquet")):
        parts = _parts(planned(_job(source), tmp_path / f"out{number}"))
        assert [part.table.name for part in parts if isinstance(part, TableRows)] == names


def test_more_parts_than_one_group_of_the_plan_holds(tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / f"{number:03}.jpg").touch()
    plan = planned(_job(tmp_path, part_images=1), tmp_path / "out")

    assert [part.paths[0].stem for part in _parts(plan) if isinstance(part, ImageFiles)] == [
        f"{n:03}" for n in range(150)
    ]


def test_answers_to_something_else_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    planned(_job(folder), tmp_path / "out")

    with pytest.raises(OfflineRunError, match="max_faces 2 instead of 1; choose another folder"):
        planned(_job(folder, max_faces=1), tmp_path / "out")


def test_what_a_job_leaves_open_is_what_the_folder_has(folder: Path, tmp_path: Path) -> None:
    decided = settled(_job(folder, backend="openvino"), Resources())
    assert "auto" not in (decided.backend, decided.precision)
    earlier = planned(decided, tmp_path / "out").job
    assert earlier == decided

    assert _job(folder).as_in(earlier) == decided
    other = "float32" if decided.precision != "float32" else "bf16"
    with pytest.raises(OfflineRunError, match=f"precision {decided.precision} instead of {other}"):
        planned(_job(folder, precision=other).as_in(earlier), tmp_path / "out")
    with pytest.raises(OfflineRunError, match="sha256 None instead of abc"):
        planned(_job(folder, sha256="abc").as_in(earlier), tmp_path / "out")


def test_a_network_that_is_not_available_is_reported(folder: Path) -> None:
    with pytest.raises(OfflineRunError, match="on cpu does not run in float16"):
        settled(_job(folder, precision="float16"), Resources(device="cpu"))


def test_a_network_of_other_weights_is_refused(folder: Path) -> None:
    with pytest.raises(OfflineRunError, match="not those that the run began with"):
        network(_job(folder, sha256="abc"), Resources())


def test_what_cannot_be_planned_leaves_no_plan(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for job, words in (
        (_job(tmp_path / "empty"), "no images"),
        (_job(folder, column="photo"), "no column photo; it has image, id"),
    ):
        with pytest.raises(OfflineRunError, match=words):
            planned(job, tmp_path / "out")

    assert list((tmp_path / "out").iterdir()) == []


def _answered(part: ImageFiles | TableRows, job: Job, out: Path) -> list[dict[str, Any]]:
    one: Recognizer = recognizer()
    attempt = Attempt(out / "notes", "run")
    done = answer(0, find(part, job, one, ImageLimits(), attempt), one, out)
    rows: list[dict[str, Any]] = parquet.read_table(place(out, 0)).to_pylist()
    assert done.images == len({row["file"] for row in rows})
    assert (done.unread, done.faces) == (sum(r["error"] is not None for r in rows), sum(bool(r["face"]) for r in rows))
    assert not (out / "notes").exists()
    return rows


def test_a_row_for_every_face_and_for_every_image_without_one(tmp_path: Path) -> None:
    for name, data in {"two": TWO_FACES, "none": NO_FACE, "text": b"no image", "empty": b""}.items():
        (tmp_path / name).write_bytes(data)
    names = ("two", "none", "text", "empty", "absent")

    rows = _answered(ImageFiles(tuple(tmp_path / name for name in names)), _job(), tmp_path)

    left, right, none, text, empty, absent = rows
    assert (left["face"], left["faces"], left["expression"], left["x"]) == (1, 2, RED, 0)
    assert (right["face"], right["faces"], right["expression"], right["x"]) == (2, 2, GREEN, 32)
    assert sum(left[f"probability_{name}"] for name in WEIGHTS.classes) == pytest.approx(1)
    assert (none["faces"], none["face"], none["error"], none["image_width"]) == (0, None, None, 64)
    assert [text["error"], empty["error"], absent["error"]] == [
        f"{UNSUPPORTED}; convert it to JPEG or PNG",
        "the image is empty: it has 0 bytes",
        "No such file or directory",
    ]


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"bytes": data, "path": None}])
def test_images_in_a_table_by_number_or_by_name(wrap: Callable[[bytes | None], object], tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    images = [wrap(data) for data in (RED_FACE, NO_FACE, TWO_FACES, None, RED_FACE)]
    parquet.write_table(pyarrow.table({"image": images, "id": ["s3://b/0", "1", "2", "3", "4"]}), path)
    part = TableRows(path, 0, 1, 1, 3)

    numbered = _answered(part, _job(), tmp_path)
    named = _answered(part, _job(name_column="id"), tmp_path)
    first = _answered(replace(part, first=0, row=0, count=1), _job(name_column="id"), tmp_path)

    assert [row["file"] for row in numbered] == [f"{path}#{row}" for row in (1, 2, 2, 3)]
    assert [row["file"] for row in named] == ["1", "2", "2", "3"]
    assert [row["file"] for row in first] == ["s3://b/0"]
    assert [row["error"] for row in named] == [None, None, None, "the row holds no image"]


def test_a_table_that_is_damaged_after_planning_costs_its_rows_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    noise = [encode(Image.effect_noise((64, 64), 60)) for _ in range(40)]
    parquet.write_table(pyarrow.table({"image": noise}), path, compression="none")
    data = bytearray(path.read_bytes())
    data[4:40] = bytes(36)
    path.write_bytes(data)

    rows = _answered(TableRows(path, 0, 0, 0, 40), _job(), tmp_path)

    assert [row["file"] for row in rows] == [f"{path}#{row}" for row in range(40)]
    assert {row["error"] for row in rows} == {"the Parquet file is damaged or gone"}


def test_an_image_that_ends_its_process_twice_is_left_out(tmp_path: Path) -> None:
    def attempt(run: str) -> list[int]:
        one = Attempt(tmp_path / "notes", run)
        read = []
        for number in range(5):
            if one.begins(number):
                read.append(number)
                if number == 3:
                    return read
        one.ended()
        return read

    assert [attempt("a") for _ in range(3)] == [[0, 1, 2, 3]] * 3
    assert attempt("b") == [0, 1, 2, 3], "another run's deaths do not count"
    assert [attempt("b") for _ in range(3)] == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 4]]
    assert not (tmp_path / "notes").exists()


def test_a_part_that_no_process_outlives_is_given_up(tmp_path: Path) -> None:
    for _ in range(MOST_BEGUN):
        Attempt(tmp_path / "notes", "a")

    with pytest.raises(OfflineRunError, match=f"ended {MOST_BEGUN} times over one part"):
        Attempt(tmp_path / "notes", "a")
    Attempt(tmp_path / "notes", "b")


def test_images_that_end_their_process_are_no_reason_to_give_up(tmp_path: Path) -> None:
    images = range(MOST_BEGUN + 1)
    for _ in range(2 * len(images) + 1):
        one = Attempt(tmp_path / "notes", "a")
        next((number for number in images if one.begins(number)), None)

    last = Attempt(tmp_path / "notes", "a")
    assert not any(last.begins(number) for number in images)
