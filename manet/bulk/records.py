"""Record: an outcome as plain values: nested, as the service would answer it, or flat, one row a face."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from manet.bulk.pipeline import Failure, Outcome
from manet.faces import Landmarks
from manet.labels import Expression
from manet.recognizer import RecognizedFace

_POINTS = tuple(field.name for field in fields(Landmarks))
_TEXT = ("file", "error", "model", "expression")
_WHOLE = ("image_width", "image_height", "faces", "face")


def name_of(outcome: Outcome) -> str:
    """Return the file's path as text; bytes in it that are no UTF-8 are written in hexadecimal."""
    return os.fsencode(outcome.file.path).decode("utf-8", "backslashreplace")


def nested(outcome: Outcome, model: str) -> dict[str, Any]:
    """Return what the service would answer, under the same names, with the file's path; or the path and the error."""
    if isinstance(outcome, Failure):
        return {"file": name_of(outcome), "error": outcome.reason}
    image = {"width": outcome.width, "height": outcome.height}
    return {"file": name_of(outcome), "model": model, "image": image, "faces": [_face(face) for face in outcome.faces]}


def _face(face: RecognizedFace) -> dict[str, Any]:
    where = face.face
    return {
        "box": None if where is None else asdict(where.box),
        "detection_confidence": None if where is None else where.confidence,
        "landmarks": None if where is None else asdict(where.landmarks),
        "expression": face.expression,
        "confidence": face.confidence,
        "probabilities": dict(face.probabilities),
    }


def columns(classes: Sequence[Expression]) -> Mapping[str, type]:
    """Return the names of a flat row's columns and what they hold, in their order.

    ``faces`` is how many the picture has and ``face`` which of them the row is, from 1; the places are pixels of the
    upright picture.
    """
    places = ("x", "y", "width", "height", "detection_confidence")
    points = (f"{point}_{axis}" for point in _POINTS for axis in "xy")
    names = ("file", "error", "model", *_WHOLE, *places, *points, "expression", "confidence")
    kinds: dict[str, type] = {name: str if name in _TEXT else int if name in _WHOLE else float for name in names}
    return kinds | {probability_column(expression): float for expression in classes}


def probability_column(expression: Expression) -> str:
    """Return the name of the column that holds an expression's probability."""
    return f"probability_{expression}"


def flat(outcome: Outcome, model: str) -> list[dict[str, Any]]:
    """Return one row a face; a picture without one, and a file that could not be read, have a row of their own.

    A row has those of the columns that it has a value for.
    """
    if isinstance(outcome, Failure):
        return [{"file": name_of(outcome), "error": outcome.reason}]
    picture: dict[str, Any] = {
        "file": name_of(outcome),
        "model": model,
        "image_width": outcome.width,
        "image_height": outcome.height,
        "faces": len(outcome.faces),
    }
    if not outcome.faces:
        return [picture]
    return [{**picture, "face": number, **_flat_face(face)} for number, face in enumerate(outcome.faces, start=1)]


def _flat_face(face: RecognizedFace) -> dict[str, Any]:
    row: dict[str, Any] = {"expression": str(face.expression), "confidence": face.confidence}
    row |= {probability_column(expression): share for expression, share in face.probabilities.items()}
    if face.face is None:
        return row
    points = asdict(face.face.landmarks)
    places = {f"{point}_{axis}": points[point][axis] for point in _POINTS for axis in "xy"}
    return {**row, **asdict(face.face.box), "detection_confidence": face.face.confidence, **places}
