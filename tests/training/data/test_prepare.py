"""Faces are found, aligned and cut out of what the owners ship."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as images
from typer.testing import CliRunner

from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.vision.formats import UNSUPPORTED
from manet.vision.retinaface import RetinaFaceDetector
from training.cli import app
from training.data.datasets import load
from training.data.datasets.expression_set import DatasetError
from training.data.prepare import SIDE, prepare

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


def _quiet(done: int, total: int) -> None:
    """Take the progress and say nothing."""


def _frame(path: Path, *, face: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = images.astronaut() if face else np.full((200, 300, 3), 90, np.uint8)
    Image.fromarray(frame).save(path)


def test_caer_s(tmp_path: Path) -> None:
    frames, faces = tmp_path / "CAER-S", tmp_path / "faces"
    _frame(frames / "train/Happy/0001.png")
    _frame(frames / "train/Sad/0002.png", face=False)
    _frame(frames / "test/Anger/0001.png")
    (frames / "train/Happy/0003.png").write_bytes(b"no image")

    done = CliRunner().invoke(app, ["prepare", "caer_s", "--data", str(frames), "--out", str(faces)])

    assert done.exit_code == 0, done.output
    assert "2 faces" in done.output
    assert "2 images without" in done.output
    with (faces / "not_found.csv").open() as file:
        listed = {Path(row["image"]).name: row["reason"] for row in csv.DictReader(file)}
    assert listed == {
        "0002.png": "no face found",
        "0003.png": f"{UNSUPPORTED}; convert it to JPEG or PNG",
    }
    found = load("caer_s", faces, "train")
    assert [path.name for path in found.paths] == ["0001.png"]
    face = found.read(0)
    assert face.shape == (SIDE, SIDE, 3)
    # Aligned to where faces lie in FER+: eyes at 38 % of the height, mouth at 76 %.
    [seen] = RetinaFaceDetector(OpenVinoFaceNetwork(threads=1), min_score=0.5).detect(
        np.pad(face, ((64, 64), (64, 64), (0, 0)), mode="edge")
    )
    assert seen.landmarks.left_eye.y - 64 == pytest.approx(0.38 * SIDE, abs=0.04 * SIDE)
    assert seen.landmarks.left_mouth.y - 64 == pytest.approx(0.76 * SIDE, abs=0.07 * SIDE)


def test_a_second_call_does_only_what_is_missing(tmp_path: Path) -> None:
    frames, faces = tmp_path / "CAER-S", tmp_path / "faces"
    for name in ("train/Happy/0001.png", "train/Happy/0002.png", "test/Sad/0001.png"):
        _frame(frames / name)
    prepare("caer_s", frames, faces, processes=1, progress=_quiet)
    kept, lost = faces / "train/Happy/0001.png", faces / "train/Happy/0002.png"
    before = kept.stat().st_mtime_ns
    lost.unlink()

    calls: list[tuple[int, int]] = []
    outcome = prepare("caer_s", frames, faces, processes=1, progress=lambda done, total: calls.append((done, total)))

    assert (outcome.faces, outcome.missing) == (3, ())
    assert kept.stat().st_mtime_ns == before
    assert lost.is_file()
    assert calls == [(2, 3), (3, 3)]


def test_affectnet_by_its_owners_boxes(tmp_path: Path) -> None:
    photos, faces = tmp_path / "AffectNet", tmp_path / "faces"
    _frame(photos / "Manually_Annotated_Images/12/a.jpg")
    _frame(photos / "Manually_Annotated_Images/12/b.jpg", face=False)
    for table, name, label in (("training", "a", 1), ("validation", "b", 5)):
        row = f"12/{name}.jpg,150,20,150,190,,{label},0,0"
        (photos / f"{table}.csv").write_text(f"{HEADER}\n{row}\n")

    outcome = prepare("affectnet7", photos, faces, processes=1, progress=_quiet)

    assert (outcome.faces, outcome.missing) == (2, ())
    train, valid = load("affectnet7", faces, "train"), load("affectnet7", faces, "valid")
    assert [train.classes[label] for label in train.labels] == ["happiness"]
    assert [valid.classes[label] for label in valid.labels] == ["disgust"]
    assert train.read(0).shape == (SIDE, SIDE, 3)
    assert valid.read(0).mean() == pytest.approx(90, abs=2)  # no face to be found in it: the owners' box
    with pytest.raises(DatasetError, match="needs no preparation"):
        prepare("affectnet7", faces, tmp_path / "again", processes=1, progress=_quiet)
