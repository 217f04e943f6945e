"""A face is written down in one way: by HTTP, on the command line, in rows of tables and in a stream."""

import json
from pathlib import Path
from types import MappingProxyType

from manet.batch.pipeline import Answer
from manet.batch.records import columns, image_form, row_of
from manet.batch.walk import Found
from manet.labels import CLASS_ORDERS
from manet.recognizer import RecognizedFace
from manet.tracking import Tracker
from manet.vision.faces import Box, DetectedFace, Landmarks, Point
from manet.weights.registry import get
from service.schemas.predict import Face, TrackedFace

EIGHT = CLASS_ORDERS["ferplus"]
DETECTED = DetectedFace(Box(1.5, 2, 30, 40.25), 0.875, Landmarks(*(Point(n, n + 0.5) for n in range(5))))
PLACED, WHOLE = (
    RecognizedFace(where, MappingProxyType(dict(zip(EIGHT, [0.5, 0.25, *[0.25 / 6] * 6], strict=True))))
    for where in (DETECTED, None)
)


def test_every_way_out_says_the_same() -> None:
    form = image_form(get("ferplus"))
    for face in (PLACED, WHOLE):
        answer = Answer(64, 48, [face], 3, Found(Path("a.png")), None)
        [followed] = Tracker().follow([face], 0.0)

        by_http = json.loads(Face.of(face).model_dump_json())
        [on_the_command_line] = json.loads(json.dumps(form.nested(answer)["faces"]))
        in_a_stream = json.loads(TrackedFace.followed(followed).model_dump_json())
        [row] = form.flat(answer)
        assert (form.nested(answer)["faces_total"], row["faces_total"], row["faces"]) == (3, 3, 1)

        assert by_http == on_the_command_line == json.loads(json.dumps(face.record()))
        assert in_a_stream == {**by_http, "track": 1, "smoothed": by_http["probabilities"]}
        assert row_of(by_http).items() <= row.items()
        assert [name for name in columns(EIGHT) if name in row] == sorted(row, key=list(columns(EIGHT)).index)


def test_a_row_names_every_place_of_a_face() -> None:
    assert set(columns(EIGHT)) - set(row_of(PLACED.record())) == {
        *("file", "error", "model", "image_width", "image_height", "faces", "faces_total", "face")
    }
