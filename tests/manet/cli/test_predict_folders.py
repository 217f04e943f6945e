"""``manet predict`` over folders, with a network and a detector whose answers are known."""

import csv
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet
from rich.console import Console

from manet.batch.walk import Found, walk
from manet.cli import local
from manet.stop import INTERRUPTED
from testing.fakes import BLUE, RED, FakeBackend, encode, paint
from tests.manet.cli.predicting import run, stop_after

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two faces, one face, no face, and a file that is no image, two folders deep."""
    folder = tmp_path / "album"
    (folder / "below").mkdir(parents=True)
    paint((255, 0, 0), (0, 0, 255)).save(folder / "a.png")
    paint((0, 0, 0)).save(folder / "b.png")
    (folder / "broken.jpg").write_text("no image")
    paint((255, 0, 0)).save(folder / "below/a.png")
    return folder


def test_a_folder_as_a_file_of_rows(album: Path, tmp_path: Path) -> None:
    done = run(album, "--out", tmp_path / "rows.csv")

    assert done.exit_code == 1
    assert done.stdout == ""
    told = done.stderr.splitlines()
    assert told[0].startswith(f"{album / 'broken.jpg'}: unsupported image format")
    assert told[1] == f"3 images, 1 files that could not be read, 3 faces: {RED} 2, {BLUE} 1"
    with (tmp_path / "rows.csv").open() as file:
        rows = [(Path(row["file"]).relative_to(album).as_posix(), row["expression"]) for row in csv.DictReader(file)]
    assert rows == [("a.png", RED), ("a.png", BLUE), ("b.png", ""), ("broken.jpg", ""), ("below/a.png", RED)]


def test_a_phones_folder_is_answered_and_what_was_passed_over_is_counted(album: Path) -> None:
    (album / "broken.jpg").unlink()
    face = paint((255, 0, 0))
    (album / "IMG_0001.HEIC").write_bytes(encode(face, "HEIC", quality=90))
    face.save(album / "IMG_0002.avif")
    face.save(album / "IMG_0003.GIF")
    for name in ("IMG_0001.MOV", "IMG_0002.MOV", "IMG_0001.AAE", ".DS_Store"):
        (album / name).touch()

    done = run(album, "--json")

    assert done.exit_code == 0
    assert [len(json.loads(line)["faces"]) for line in done.stdout.splitlines()] == [1, 1, 1, 2, 0, 1]
    assert done.stderr == "passed over: 2 .mov, 1 hidden, 1 .aae\n"


def test_a_file_of_rows_and_lines_for_a_machine_at_once(album: Path, tmp_path: Path) -> None:
    done = run(album, "--json", "--out", tmp_path / "rows.parquet")

    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [len(line.get("faces", ())) for line in lines] == [2, 0, 0, 1]
    assert parquet.read_table(tmp_path / "rows.parquet").num_rows == 5


def test_drawings_of_a_folder_keep_their_places_and_are_not_drawn_again(album: Path) -> None:
    (album / "broken.jpg").unlink()
    for _ in range(2):
        done = run(album, "--draw", album / "drawn", "--sheet", album / "sheet.png", "--json")
        assert done.exit_code == 0, done.output
        assert len(done.stdout.splitlines()) == 3

    drawn = sorted(path.relative_to(album / "drawn").as_posix() for path in (album / "drawn").rglob("*.png"))
    assert drawn == ["a.png.png", "b.png.png", "below/a.png.png"]
    with Image.open(album / "sheet.png") as sheet:
        assert sheet.width > 4 * 144


def test_folders_of_one_name_are_not_drawn_over_each_other(album: Path, tmp_path: Path) -> None:
    other = tmp_path / "other/album"
    other.mkdir(parents=True)
    paint((255, 0, 0)).save(other / "a.png")

    assert "same name" in run(album, other, "--draw", tmp_path / "drawn").stderr
    done = run(album, other.parent, "--draw", tmp_path / "drawn")

    assert done.exit_code == 1
    assert (tmp_path / "drawn/album/a.png.png").is_file()
    assert (tmp_path / "drawn/other/album/a.png.png").is_file()


def test_no_drawing_overwrites_its_image(album: Path) -> None:
    for arguments in ((album, "--draw", album), (album / "a.png", "--draw", album / "a.png")):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "among the images" in done.stderr


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [("--out", "rows.xls", ".csv, .jsonl, .parquet"), ("--sheet", "sheet.gif", "written as .png")],
)
def test_an_output_of_no_known_format_is_refused(album: Path, option: str, name: str, message: str) -> None:
    done = run(album, option, name)

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_folder_without_images_is_no_success(tmp_path: Path) -> None:
    done = run(tmp_path)

    assert done.exit_code == 1
    assert done.stderr == "no images there\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_a_run_that_is_stopped_leaves_a_whole_file(
    name: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for count in range(300):
        paint((255, 0, 0)).save(folder / f"{count:03}.png")
    stop_after(40, number, monkeypatch)
    done = run(folder, "--out", tmp_path / name)

    assert done.exit_code == INTERRUPTED
    path = tmp_path / name
    if name.endswith("parquet"):
        written = parquet.read_table(path)["file"].to_pylist()
    elif name.endswith("csv"):
        with path.open() as file:
            written = [row["file"] for row in csv.DictReader(file)]
    else:
        written = [json.loads(line)["file"] for line in path.read_text().splitlines()]
    assert 40 <= len(written) < 200
    assert written == [str(folder / f"{count:03}.png") for count in range(len(written))]
    assert f"{len(written)} images" in done.stderr


def test_a_failing_network_still_leaves_what_was_written_whole(
    album: Path, tmp_path: Path, backend: FakeBackend
) -> None:
    backend.broken = True

    done = run(album, "--out", tmp_path / "rows.parquet")

    assert isinstance(done.exception, RuntimeError)
    assert parquet.read_table(tmp_path / "rows.parquet").num_rows == 0


def test_the_list_of_failures_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MOST_LISTED", 2)

    done = run(*(tmp_path / f"absent{number}.png" for number in range(5)))

    assert done.exit_code == 1
    assert done.stderr.count("No such file") == 2
    assert "and 3 more could not be read" in done.stderr


def test_progress_is_shown_on_a_terminal(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Console

    def terminal(*, stderr: bool = False) -> Console:
        return made(stderr=stderr, force_terminal=stderr, width=80)

    monkeypatch.setattr(local, "Console", terminal)
    done = run(album, "--json")

    assert "4/4" in done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_files_are_counted_only_for_a_bar(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []

    def counted(*arguments: Any, **options: Any) -> Iterator[Found]:
        walks.append(arguments)
        return walk(*arguments, **options)

    monkeypatch.setattr(local, "walk", counted)
    run(album, "--json")

    assert len(walks) == 1
