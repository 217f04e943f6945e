"""``manet predict``: apparent expressions of the faces in picture files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from manet.backends import Device
from manet.commands.weights import Store
from manet.drawing import draw_faces
from manet.errors import PictureError
from manet.files import write_whole
from manet.pictures import PictureLimits, read_picture
from manet.preprocess import Pixels
from manet.recognizer import MAX_FACES, FaceMode, RecognizedFace, Recognizer

_DRAWN = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def predict(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JPEG, PNG, WebP or BMP pictures.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line and file.")] = False,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write the picture with boxes and names; a folder for several files."),
    ] = None,
    weights: Annotated[str, typer.Option(help="One of those that `manet weights list` shows.")] = "ferplus",
    faces: Annotated[FaceMode, typer.Option(help="Look for faces, or take each picture as one.")] = "detect",
    max_faces: Annotated[int, typer.Option(min=1, help="The most faces to answer in a picture.")] = MAX_FACES,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = "auto",
    store: Store = None,
) -> None:
    """Name the apparent expression of each face, with its probability; exit status 1 if a file could not be read."""
    targets = _targets(files, draw)
    recognizer = Recognizer.from_weights(weights, store=store, device=device)
    limits = PictureLimits()
    columns = ("face", "x", "y", "width", "height", "expression", "next")
    table = Table(Column("file", overflow="fold"), *columns, box=None, pad_edge=False)
    failed = 0
    for path in files:
        try:
            image = read_picture(path.read_bytes(), limits=limits)
        except (PictureError, OSError) as error:
            failed += 1
            _report(path, error, as_json)
            continue
        found = recognizer.recognize(image, faces=faces, max_faces=max_faces)
        if as_json:
            typer.echo(json.dumps({"file": str(path), **_answer(image, found, recognizer.weights.id)}))
        else:
            _add_rows(table, path, found)
        if path in targets:
            picture = draw_faces(image, found)
            write_whole(targets[path], picture.save)
    if not as_json and table.row_count:
        Console().print(table)
    if failed:
        raise typer.Exit(1)


def _targets(files: Sequence[Path], draw: Path | None) -> dict[Path, Path]:
    """Return where each file's drawing goes: the one file named, or one of the same name in the folder named.

    Raises:
        typer.BadParameter: if a drawing would have no format, or two would have the same name.
    """
    if draw is None:
        return {}
    if len(files) == 1:
        if draw.suffix.lower() not in _DRAWN:
            raise typer.BadParameter(f"--draw writes {', '.join(_DRAWN)}; {draw} is none of them")
        return {files[0]: draw}
    targets = {path: draw / f"{path.stem}.png" for path in files}
    if len(set(targets.values())) < len(targets):
        raise typer.BadParameter("two files of the same name would be drawn to one; give them one by one")
    return targets


def _report(path: Path, error: Exception, as_json: bool) -> None:
    reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    if as_json:
        typer.echo(json.dumps({"file": str(path), "error": reason}))
    else:
        typer.secho(f"{path}: {reason}", fg="red", err=True)


def _answer(image: Pixels, found: Sequence[RecognizedFace], model: str) -> dict[str, Any]:
    """Return what the service would answer, under the same names."""
    height, width = image.shape[:2]
    return {"model": model, "image": {"width": width, "height": height}, "faces": [_face(face) for face in found]}


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


def _add_rows(table: Table, path: Path, found: Sequence[RecognizedFace]) -> None:
    if not found:
        table.add_row(str(path), "none")
    for number, face in enumerate(found, start=1):
        box = None if face.face is None else face.face.box
        place = ["-"] * 4 if box is None else [f"{v:.0f}" for v in (box.x, box.y, box.width, box.height)]
        first, second = sorted(face.probabilities.items(), key=lambda entry: -entry[1])[:2]
        table.add_row(str(path), str(number), *place, *(f"{name} {share:.0%}" for name, share in (first, second)))
