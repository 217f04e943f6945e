"""Offline on two nodes: every image once, whatever is broken and whichever process is killed."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import skimage.data
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner, Result

from manet.__main__ import app
from manet.errors import OfflineRunError
from manet.offline import pipeline
from manet.offline.attempt import MOST_BEGUN
from manet.offline.pipeline import predict_at_scale
from manet.offline.plan import Plan
from manet.recognizer import Recognizer
from manet.vision.images import ImageLimits, read_image
from testing.fakes import RED, RED_FACE, encode
from tests.ray import networks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty portraits in two folders, two files that are no images, and a table of four more rows."""
    folder = tmp_path_factory.mktemp("images")
    portrait = Image.fromarray(skimage.data.astronaut())
    for number in range(20):
        below = folder / f"{number % 2}"
        below.mkdir(exist_ok=True)
        side = 200 + 5 * number
        (below / f"{number:02}.jpg").write_bytes(encode(portrait.resize((side, side)), "JPEG"))
    (folder / "broken.jpg").write_bytes((folder / "0" / "00.jpg").read_bytes()[:2000])
    (folder / "text.png").write_text("no image")
    (folder / "notes.txt").write_text("no image")
    images = [encode(portrait.resize((side, side)), "JPEG") for side in (310, 320)]
    table = pyarrow.table({"image": [*images, None, b"no image"]})
    parquet.write_table(table, folder / "more.parquet", row_group_size=3)
    return folder


def _rows(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(out).to_pylist()
    return rows


def _expected(folder: Path) -> list[str]:
    files = [str(path) for path in folder.rglob("*") if path.suffix in {".jpg", ".png"}]
    return sorted([*files, *(f"{folder / 'more.parquet'}#{row}" for row in range(4))])


def _predict(*arguments: object) -> Result:
    command = ["predict", *map(str, arguments), "--executor", "ray"]
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, command)


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_every_image_has_the_answer_of_one_process_whichever_process_is_killed(
    one_process: Recognizer, portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run = partial(predict_at_scale, loaders=networks.Killed(tmp_path).loaders())
    monkeypatch.setattr(pipeline, "predict_at_scale", run)

    done = _predict(portraits, "--part-images", 2, "--max-faces", 3, "--out", out)

    assert done.exit_code == 0, done.output
    assert (tmp_path / "finder").exists(), "no process that finds faces was killed"
    assert (tmp_path / "network").exists(), "no process with the network was killed"
    decided, backend = Plan(out).job, one_process.backend
    assert (decided.backend, decided.precision) == (backend.name, backend.precision)
    rows = _rows(out)
    assert sorted(row["file"] for row in rows) == _expected(portraits)
    errors = {Path(row["file"]).name: row["error"] for row in rows if row["error"]}
    assert set(errors) == {"broken.jpg", "text.png", "more.parquet#2", "more.parquet#3"}
    assert errors["more.parquet#2"] == "the row holds no image"
    assert "passed over: 1 .txt\n" in done.stderr
    assert "26 images in this run, 4 of them unreadable, 22 faces" in done.stderr
    for row in rows:
        if row["error"] is None and ".parquet" not in row["file"]:
            image = read_image(Path(row["file"]).read_bytes(), limits=ImageLimits())
            [face] = one_process.recognize(image, max_faces=3)
            assert (row["image_height"], row["image_width"]) == image.shape[:2]
            assert row["expression"] == face.expression
            found = [row[f"probability_{name}"] for name in one_process.weights.classes]
            assert found == pytest.approx(list(face.probabilities.values()), abs=2e-2)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder of twelve faces."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.png").write_bytes(RED_FACE)
    return folder


@pytest.mark.usefixtures("ray_cluster")
def test_a_network_that_cannot_be_kept_alive_ends_the_run_and_says_so(drawn: Path, tmp_path: Path) -> None:
    one = networks.job(drawn / "00.png")

    with pytest.raises(OfflineRunError, match=f"given up.* the process ended {MOST_BEGUN} times over one part"):
        networks.run(one, tmp_path / "out", networks.ILL)

    notes = (tmp_path / "out" / ".part-000000000.network.notes").read_text().split()
    assert notes[1:] == ["begun"] * MOST_BEGUN


def test_a_run_that_was_killed_goes_on_with_what_is_left_and_with_the_network_that_it_had(
    drawn: Path, tmp_path: Path, ray_cluster: str
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-m", "tests.ray.networks", drawn, out, ray_cluster], cwd=ROOT) as run:
        _until(lambda: len(_parts(out)) > 2 or run.poll() is not None)
        run.kill()
    done = _parts(out)

    reports = networks.run(networks.job(drawn), out, networks.SLOW)

    after = _parts(out)
    assert 3 <= len(done) < len(after) == 12, "it was killed too late to show anything"
    assert {name: after[name] for name in done} == done
    assert reports[0].parts == 12
    assert reports[0].finished >= len(done)
    assert sorted(row["file"] for row in _rows(out)) == sorted(map(str, drawn.iterdir()))
    assert {row["expression"] for row in _rows(out)} == {RED}
    assert not list(out.glob(".part-*"))
    with pytest.raises(OfflineRunError, match="precision float32 instead of bf16; choose another folder"):
        networks.run(replace(networks.job(drawn), precision="bf16"), out, networks.SLOW)


@pytest.mark.usefixtures("ray_cluster")
def test_a_network_that_no_machine_has_is_reported_before_anything_is_planned(drawn: Path, tmp_path: Path) -> None:
    done = _predict(drawn, "--precision", "float16", "--device", "cpu", "--out", tmp_path / "out")

    assert isinstance(done.exception, OfflineRunError)
    assert "on cpu does not run in float16" in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_place_for_the_answers_must_be_named(drawn: Path) -> None:
    for arguments in ([], ["--out", "answers.csv"]):
        done = _predict(drawn, *arguments)
        assert done.exit_code == 2
        assert "--out" in done.stderr


def _parts(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}


def _until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
