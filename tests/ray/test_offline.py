"""Offline on two nodes: every picture once, whatever is broken and whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import skimage.data
from PIL import Image
from pyarrow import parquet
from typer import BadParameter

from manet.commands.offline import predict_on_ray
from manet.pictures import PictureLimits, read_picture
from manet.recognizer import Recognizer
from tests.service.fakes import encode

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from pathlib import Path

from manet.commands.offline import predict_on_ray

predict_on_ray(
    [Path(sys.argv[1])], Path(sys.argv[2]), weights="ferplus", faces="detect", max_faces=3, device="auto", store=None,
    part_pictures=4, column="image", name_column=None, address=sys.argv[3], gpus=0,
)
"""

CHOICES: Mapping[str, Any] = {
    "weights": "ferplus",
    "faces": "detect",
    "max_faces": 3,
    "device": "auto",
    "store": None,
    "part_pictures": 4,
    "column": "image",
    "name_column": None,
    "address": None,
    "gpus": 0,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of forty portraits, two files that are no pictures, and a table of six more pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    portrait = Image.fromarray(skimage.data.astronaut())
    for number in range(40):
        below = folder / f"{number % 3}"
        below.mkdir(exist_ok=True)
        side = 300 + 5 * number
        (below / f"{number:02}.jpg").write_bytes(encode(portrait.resize((side, side)), "JPEG"))
    (folder / "broken.jpg").write_bytes((folder / "0" / "00.jpg").read_bytes()[:2000])
    (folder / "text.png").write_text("no picture")
    images = [encode(portrait.resize((side, side)), "JPEG") for side in (310, 320, 330, 340)]
    table = pyarrow.table({"image": [*images, None, b"no picture"]})
    parquet.write_table(table, folder / "more.parquet", row_group_size=5)
    return folder


def _rows(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(out).to_pylist()
    return rows


def _expected(folder: Path) -> list[str]:
    files = [str(path) for path in folder.rglob("*") if path.suffix in {".jpg", ".png"}]
    return sorted([*files, *(f"{folder / 'more.parquet'}#{row}" for row in range(6))])


@pytest.mark.usefixtures("ray_cluster")
def test_every_picture_has_the_answer_of_one_process_or_an_error(pictures: Path, tmp_path: Path) -> None:
    predict_on_ray([pictures], tmp_path / "out", **CHOICES)

    rows = _rows(tmp_path / "out")
    assert sorted(row["file"] for row in rows) == _expected(pictures)
    errors = {Path(row["file"]).name: row["error"] for row in rows if row["error"]}
    assert set(errors) == {"broken.jpg", "text.png", "more.parquet#4", "more.parquet#5"}
    assert errors["more.parquet#4"] == "the row holds no picture"
    recognizer = Recognizer.from_weights("ferplus")
    sound = [row for row in rows if row["error"] is None and ".parquet" not in row["file"]]
    assert len(sound) == 40
    for row in sound[::8]:
        image = read_picture(Path(row["file"]).read_bytes(), limits=PictureLimits())
        [face] = recognizer.recognize(image, max_faces=3)
        assert row["expression"] == face.expression
        assert (row["image_height"], row["image_width"]) == image.shape[:2]
        found = [row[f"probability_{name}"] for name in recognizer.weights.classes]
        assert found == pytest.approx(list(face.probabilities.values()), abs=2e-2)


def test_a_run_that_was_killed_goes_on_without_doing_a_part_again(
    pictures: Path, tmp_path: Path, ray_cluster: str
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", PROGRAM, str(pictures), str(out), ray_cluster]
    with subprocess.Popen(command, cwd=ROOT) as run:
        end = time.monotonic() + 100
        while len(list(out.glob("part-*.parquet"))) < 3:
            assert time.monotonic() < end, "no parts were finished"
            assert run.poll() is None, "the run ended by itself"
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)
    time.sleep(3)  # the cluster ends the actors of the dead driver
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}

    predict_on_ray([pictures], out, **CHOICES)

    after = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    assert 3 <= len(done) < len(after), "it was killed too late to show anything"
    assert {name: after[name] for name in done} == done
    assert sorted(row["file"] for row in _rows(out)) == _expected(pictures)
    assert not list(out.glob(".part-*"))


def test_a_place_for_the_answers_must_be_named(pictures: Path) -> None:
    for out in (None, Path("answers.csv")):
        with pytest.raises(BadParameter, match="--out"):
            predict_on_ray([pictures], out, **CHOICES)
