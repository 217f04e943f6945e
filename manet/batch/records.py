"""Record: an outcome as plain values: nested, as the service would answer it, or flat, one row a face."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from manet.batch.pipeline import Failure, Outcome
from manet.labels import Expression
from manet.vision.faces import Landmarks
from manet.weights.entry import Weights

Item_contra = TypeVar("Item_contra", contravariant=True)

_POINTS = tuple(field.name for field in fields(Landmarks))
_WHOLE = ("image_width", "image_height", "faces", "faces_total", "face")


@dataclass(frozen=True, slots=True)
class RecordFormat(Generic[Item_contra]):
    """How something that was answered is written down.

    Attributes:
        columns: of a flat row, by name, in their order, and what they hold.
        flat: returns its rows, each with those of the columns that it has a value for.
        nested: returns it as one object.
    """

    columns: Mapping[str, type]
    flat: Callable[[Item_contra], list[dict[str, Any]]]
    nested: Callable[[Item_contra], dict[str, Any]]


def image_form(weights: Weights) -> RecordFormat[Outcome]:
    """Return how outcomes are written down."""
    return RecordFormat(columns(weights.classes), partial(flat, model=weights.id), partial(nested, model=weights.id))


def name_of(outcome: Outcome) -> str:
    """Return the file's path as text."""
    return as_text(outcome.file.path)


def as_text(path: Path) -> str:
    """Return a path as text; bytes in it that are no UTF-8 are written in hexadecimal."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def nested(outcome: Outcome, model: str) -> dict[str, Any]:
    """Return what the service would answer, under the same names, with the file's path; or the path and the error."""
    if isinstance(outcome, Failure):
        return {"file": name_of(outcome), "error": outcome.reason}
    image = {"width": outcome.width, "height": outcome.height}
    return {
        "file": name_of(outcome),
        "model": model,
        "image": image,
        "faces_total": outcome.faces_total,
        "faces": [face.record() for face in outcome.faces],
    }


def columns(classes: Sequence[Expression]) -> Mapping[str, type]:
    """Return the names of a flat row's columns and what they hold, in their order.

    ``faces`` is how many of the image's faces are answered, ``faces_total`` how many were found, and ``face`` which of
    the answered ones the row is, from 1; the places are pixels of the upright image.
    """
    kinds: dict[str, type] = {"file": str, "error": str, "model": str} | dict.fromkeys(_WHOLE, int)
    return kinds | face_columns(classes)


def face_columns(classes: Sequence[Expression]) -> dict[str, type]:
    """Return those of the columns that are the face's own."""
    places = ("x", "y", "width", "height", "detection_confidence")
    points = (f"{point}_{axis}" for point in _POINTS for axis in "xy")
    kinds: dict[str, type] = dict.fromkeys((*places, *points), float) | {"expression": str, "confidence": float}
    return kinds | {probability_column(expression): float for expression in classes}


def probability_column(expression: Expression) -> str:
    """Return the name of the column that holds an expression's probability."""
    return f"probability_{expression}"


def flat(outcome: Outcome, model: str) -> list[dict[str, Any]]:
    """Return one row a face; an image without one, and a file that could not be read, have a row of their own.

    A row has those of the columns that it has a value for.
    """
    if isinstance(outcome, Failure):
        return [{"file": name_of(outcome), "error": outcome.reason}]
    image: dict[str, Any] = {
        "file": name_of(outcome),
        "model": model,
        "image_width": outcome.width,
        "image_height": outcome.height,
        "faces": len(outcome.faces),
        "faces_total": outcome.faces_total,
    }
    if not outcome.faces:
        return [image]
    return [{**image, "face": number, **row_of(face.record())} for number, face in enumerate(outcome.faces, start=1)]


def row_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a face's plain values as those of a flat row."""
    row = {"expression": str(record["expression"]), "confidence": record["confidence"]}
    row |= {probability_column(expression): share for expression, share in record["probabilities"].items()}
    if record["box"] is None:
        return row
    points = {f"{point}_{axis}": at for point, place in record["landmarks"].items() for axis, at in place.items()}
    return {**row, **record["box"], "detection_confidence": record["detection_confidence"], **points}
