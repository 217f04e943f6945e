"""``manet predict`` on a clip, with a network and a detector whose answers are known."""

import csv
import json
import signal
from itertools import count
from pathlib import Path

import pytest
from pyarrow import parquet
from rich.console import Console

from manet.backends.base import Logits
from manet.cli import predict, video
from manet.stop import INTERRUPTED
from manet.vision.preprocess import Pixels
from testing.clips import packets, shown, wandering, write_clip
from testing.fakes import BLUE, RED, FakeBackend
from tests.manet.cli.predicting import run, stop_after

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames at uneven times: a red face throughout, a blue one from the sixth on; and a tone."""
    times = [0, 40, 80, 120, 300, 340, 380, 420, 460, 1000]
    return write_clip(tmp_path / "clip.mp4", wandering(10), times=times, sounds=("aac",))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rows_and_a_copy_with_its_sound_beside_the_clip(clip: Path) -> None:
    done = run(clip)

    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    told = done.stderr.splitlines()
    assert told[0] == f"{clip}: 10 frames, the last at 1.00 s, 15 faces on 2 tracks: {RED} 10, {BLUE} 5"
    assert told[1:] == [f"written: {clip.with_name(name)}" for name in ("clip-faces.csv", "clip-faces.mp4")]
    found = rows(clip.with_name("clip-faces.csv"))
    assert [float(row["time"]) for row in found if row["face"] == "1"] == pytest.approx(
        [0, 0.04, 0.08, 0.12, 0.3, 0.34, 0.38, 0.42, 0.46, 1.0], abs=0.001
    )
    assert {(row["track"], row["expression"]) for row in found} == {("1", RED), ("2", BLUE)}
    assert [row["frame"] for row in found if row["face"] == "2"] == ["5", "6", "7", "8", "9"]
    assert packets(clip.with_name("clip-faces.mp4")) == packets(clip)
    assert len(shown(clip.with_name("clip-faces.mp4"))) == 10
    assert names(clip.parent) == ["clip-faces.csv", "clip-faces.mp4", "clip.mp4"]


def test_lines_for_a_machine_and_nothing_else(clip: Path) -> None:
    done = run(clip, "--json")

    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["frame"] for line in lines] == list(range(10))
    assert lines[9]["time"] == pytest.approx(1, abs=0.001)
    assert lines[9]["image"] == {"width": 64, "height": 48}
    assert [(face["track"], face["expression"]) for face in lines[9]["faces"]] == [(1, RED), (2, BLUE)]
    assert names(clip.parent) == ["clip.mp4"]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl"])
def test_only_what_is_requested(name: str, clip: Path) -> None:
    table = clip.with_name(name)

    done = run(clip, "--out", table)

    assert done.exit_code == 0, done.output
    if name.endswith("parquet"):
        frames = parquet.read_table(table)["frame"].to_pylist()
    else:
        frames = [json.loads(line)["frame"] for line in table.read_text().splitlines()]
    assert sorted(set(frames)) == list(range(10))
    assert names(clip.parent) == ["clip.mp4", name]


def test_a_copy_where_it_is_wanted(clip: Path) -> None:
    done = run(clip, "--draw", clip.parent / "new/drawn.mkv", "--max-faces", 1)

    assert done.exit_code == 0, done.output
    assert len(shown(clip.parent / "new/drawn.mkv")) == 10
    assert "10 faces on 1 tracks" in done.stderr
    assert names(clip.parent) == ["clip.mp4", "new"]


def test_sound_that_no_mp4_holds_makes_the_copy_a_matroska_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", wandering(4), sounds=("pcm_u8",))

    done = run(clip)

    assert done.exit_code == 0, done.output
    assert packets(tmp_path / "clip-faces.mkv") == packets(clip)
    assert names(tmp_path) == ["clip-faces.csv", "clip-faces.mkv", "clip.mkv"]


def test_the_whole_frame_as_one_face(clip: Path) -> None:
    done = run(clip, "--faces", "whole", "--json")

    faces = [json.loads(line)["faces"] for line in done.stdout.splitlines()]
    assert [[(face["track"], face["box"]) for face in found] for found in faces] == [[(1, None)]] * 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_whole_rows_and_a_copy_that_plays(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", wandering(400), sounds=("aac",))
    stop_after(40, number, monkeypatch)
    done = run(clip)

    assert done.exit_code == INTERRUPTED
    found = rows(tmp_path / "clip-faces.csv")
    assert 40 <= len(found) < 250
    assert [row["frame"] for row in found] == [str(frame) for frame in range(len(found))]
    assert all(row["smoothed_contempt"] for row in found)
    copied = shown(tmp_path / "clip-faces.mp4")
    assert [time for time, _ in copied] == pytest.approx([float(row["time"]) for row in found], abs=0.001)
    [(_, sound)], [(_, whole)] = packets(tmp_path / "clip-faces.mp4"), packets(clip)
    assert sound == whole[: len(sound)]
    assert len(sound) > 40
    assert f"{len(found)} frames" in done.stderr
    assert "ends after" not in done.stderr
    assert names(tmp_path) == ["clip-faces.csv", "clip-faces.mp4", "clip.mp4"]


def test_a_truncated_clip_is_reported_and_written_files_are_complete(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", wandering(100), sounds=("aac",))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])

    done = run(clip)

    assert done.exit_code == 1
    assert f"{clip}: it ends after " in done.stderr
    copied = shown(tmp_path / "clip-faces.mp4")
    assert 10 < len(copied) < 90
    assert len({row["frame"] for row in rows(tmp_path / "clip-faces.csv")}) == len(copied)


@pytest.mark.parametrize("content", [b"no video", b"", None], ids=["text", "empty", "absent"])
def test_what_is_no_clip_is_one_line_and_makes_no_file(content: bytes | None, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    if content is not None:
        clip.write_bytes(content)

    done = run(clip)

    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{clip}: ")
    assert names(tmp_path) == ([] if content is None else ["clip.mp4"])


def test_a_failing_network_still_leaves_whole_files(
    clip: Path, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(clip, wandering(200))
    infer, calls = backend.infer, count(1)

    def failing(images: Pixels) -> Logits:
        backend.broken = next(calls) > 1
        return infer(images)

    monkeypatch.setattr(backend, "infer", failing)
    done = run(clip)

    assert isinstance(done.exception, RuntimeError)
    found = rows(clip.with_name("clip-faces.csv"))
    assert 20 < len(found) < 100
    assert len(shown(clip.with_name("clip-faces.mp4"))) == len(found)


def test_without_pyav_it_says_what_to_install(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "find_spec", lambda name: None)

    done = run(clip)

    assert done.exit_code == 2
    assert "pip install 'manet[video]'" in done.stderr


def test_the_clip_is_never_written_over(clip: Path) -> None:
    before = clip.read_bytes()
    (clip.parent / "link.mp4").symlink_to(clip)
    (clip.parent / "link.csv").hardlink_to(clip)

    for option in (("--draw", clip), ("--draw", clip.parent / "link.mp4"), ("--out", clip.parent / "link.csv")):
        done = run(clip, *option)
        assert done.exit_code == 2
        assert "the clip itself" in " ".join(done.stderr.split())

    assert clip.read_bytes() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sheet", "sheet.png"], "by itself"),
        (["other.mp4"], "by itself"),
        (["--executor", "ray", "--out", "answers"], "by itself"),
        (["--draw", "drawn.avi"], ".mp4, .mkv, .mov"),
        (["--out", "rows.xls"], ".csv, .jsonl, .parquet"),
    ],
)
def test_what_a_clip_cannot_be_requested_is_refused(more: list[str], message: str, clip: Path) -> None:
    done = run(clip, *more)

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_progress_is_shown_on_a_terminal(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Console

    def terminal(*, stderr: bool = False) -> Console:
        return made(stderr=stderr, force_terminal=stderr, width=80)

    monkeypatch.setattr(video, "Console", terminal)
    done = run(clip)

    assert "10 frames" in done.stderr.split("the last")[0]
    assert "%" in done.stderr


def test_a_clip_in_a_folder_is_no_image(clip: Path) -> None:
    done = run(clip.parent)

    assert done.exit_code == 1
    assert done.stderr == "passed over: 1 .mp4\nno images there\n"
