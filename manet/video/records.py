"""Record: a frame as plain values: nested, as ``WS /stream`` would answer it, or flat, one row a face."""

from functools import partial
from pathlib import Path
from typing import Any

from manet.batch.records import RecordFormat, as_text, face_columns, row_of
from manet.tracking import FollowedFace
from manet.video.pipeline import FrameAnswer
from manet.weights.entry import Weights


def frame_form(file: Path, weights: Weights) -> RecordFormat[FrameAnswer]:
    """Return how the frames of a clip are written down.

    ``frame`` counts them from 0, ``time`` is when one is shown, in seconds since the clip's beginning. ``track`` is a
    number that lasts while a face is followed. ``smoothed``, and in rows each ``smoothed_EXPRESSION``, are the
    probabilities averaged over the track; ``expression`` and ``confidence`` are theirs, while ``probabilities``, and
    each ``probability_EXPRESSION``, are of the frame alone.

    Args:
        file: the clip.
        weights: what answered.
    """
    whole = {"file": as_text(file), "model": weights.id}
    smoothed: dict[str, type] = {f"smoothed_{expression}": float for expression in weights.classes}
    kinds: dict[str, type] = {"file": str, "model": str, "frame": int, "time": float}
    kinds |= dict.fromkeys(("image_width", "image_height", "faces", "faces_total", "face", "track"), int)
    return RecordFormat(
        kinds | face_columns(weights.classes) | smoothed, partial(_flat, whole=whole), partial(_nested, whole=whole)
    )


def _nested(answer: FrameAnswer, whole: dict[str, str]) -> dict[str, Any]:
    return {
        **whole,
        "frame": answer.moment.number,
        "time": answer.moment.time,
        "image": {"width": answer.width, "height": answer.height},
        "faces_total": answer.faces_total,
        "faces": [face.record() for face in answer.faces],
    }


def _flat(answer: FrameAnswer, whole: dict[str, str]) -> list[dict[str, Any]]:
    frame: dict[str, Any] = {
        **whole,
        "frame": answer.moment.number,
        "time": answer.moment.time,
        "image_width": answer.width,
        "image_height": answer.height,
        "faces": len(answer.faces),
        "faces_total": answer.faces_total,
    }
    faces = enumerate(answer.faces, start=1)
    return [{**frame, "face": number, **_flat_face(face)} for number, face in faces] or [frame]


def _flat_face(face: FollowedFace) -> dict[str, Any]:
    smoothed = {f"smoothed_{expression}": share for expression, share in face.smoothed.items()}
    return {**row_of(face.record()), "track": face.track, **smoothed}
