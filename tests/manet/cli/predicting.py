"""``manet predict``, run within the test's own process."""

import os
import signal

import pytest
from typer.testing import CliRunner, Result

from manet.__main__ import app
from manet.backends.base import Logits
from manet.recognizer import FaceInput, RecognizedFace, Recognizer


def run(*arguments: object) -> Result:
    """Return what came of it; the terminal is wide enough for any line."""
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, ["predict", *map(str, arguments)])


def stop_after(count: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the process sent a signal when so many faces are read."""
    read = Recognizer.read
    faces: list[FaceInput] = []

    def read_and_stop(self: Recognizer, face: FaceInput, logits: Logits) -> RecognizedFace:
        faces.append(face)
        if len(faces) == count:
            os.kill(os.getpid(), number)
        return read(self, face, logits)

    monkeypatch.setattr(Recognizer, "read", read_and_stop)
