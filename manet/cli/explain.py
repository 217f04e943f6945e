"""``manet explain``: what the network went by in each face of an image, as numbers and as images."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from manet.batch.pipeline import reason
from manet.cli.weights import Store
from manet.errors import ImageError
from manet.explain.overlays import draw_explanation
from manet.explain.result import Explanation, record
from manet.files import atomic_write
from manet.labels import Expression
from manet.recognizer import MAX_FACES, FaceMode, Recognizer
from manet.vision.formats import ONE_OF_THE_FORMATS
from manet.vision.images import ImageLimits, image_bytes, read_scaled


def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=f"An image: {ONE_OF_THE_FORMATS}.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each face with the maps over it, as PNG.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    expression: Annotated[
        Expression | None, typer.Option(help="Explain this one instead of the one that is answered.")
    ] = None,
    weights: Annotated[str, typer.Option(help="One of those that `manet weights list` shows.")] = "ferplus",
    faces: Annotated[FaceMode, typer.Option(help="Detect faces, small ones too, or take the image as one.")] = "detect",
    max_faces: Annotated[int, typer.Option(min=1, help="The most faces to explain.")] = MAX_FACES,
    store: Store = None,
) -> None:
    """Explain an answer: what each branch says by itself, what each patch adds, and where the evidence lies.

    Evidence is in logits: what a place adds to the score of the explained expression, below zero where it speaks
    against it. Attention, 0 to 1, is how much of a patch the local module lets through. The exit status is 1 if the
    file could not be read.
    """
    if find_spec("torch") is None or find_spec("captum") is None:
        raise typer.BadParameter("explanations need PyTorch and captum: pip install 'manet[explain]'")
    from manet.explain.attribution import Explainer  # noqa: PLC0415 - an extra, and it loads PyTorch

    recognizer = Recognizer.from_weights(weights, backend="torch", store=store)
    if expression is not None and expression not in recognizer.weights.classes:
        raise typer.BadParameter(f"the expressions of these weights are {', '.join(recognizer.weights.classes)}")
    limits = ImageLimits()
    try:
        image = read_scaled(image_bytes(file, limits), limits=limits)
    except (ImageError, OSError) as error:
        typer.secho(f"{file}: {reason(error)}", fg="red", err=True)
        raise typer.Exit(1) from None
    explainer = Explainer.load(recognizer, store)
    found = recognizer.find(image, faces=faces, max_faces=max_faces)
    explanations = [explainer.explain(face, expression) for face in found.faces]
    if as_json:
        shown = [{**one.answer.record(), "explanation": record(one)} for one in explanations]
        head = {"file": str(file), "model": recognizer.weights.id}
        size = {"width": found.width, "height": found.height}
        typer.echo(json.dumps({**head, "image": size, "faces_total": found.faces_total, "faces": shown}))
    else:
        _print(explanations, Console())
    if out is not None:
        for number, one in enumerate(explanations, start=1):
            _write(out, number, one)


def _write(out: Path, number: int, explanation: Explanation) -> None:
    for name, image in draw_explanation(explanation).items():
        atomic_write(out / f"face-{number}-{name.replace('_', '-')}.png", image.save)


def _print(explanations: list[Explanation], console: Console) -> None:
    if not explanations:
        console.print("no faces")
    for number, one in enumerate(explanations, start=1):
        console.print(f"face {number}: {_votes(one)}; explained: {one.expression}", highlight=False)
        table = Table("", "evidence", "share", "attention", box=None, pad_edge=False)
        for patch in one.patches:
            name = patch.name.replace("_", " ")
            table.add_row(name, f"{patch.evidence:+.2f}", f"{patch.share:.0%}", f"{patch.attention:.2f}")
        console.print(table)


def _votes(explanation: Explanation) -> str:
    votes = {
        "answer": explanation.answer,
        "local": explanation.local.vote,
        "multi-scale": explanation.multi_scale.vote,
    }
    return ", ".join(f"{name} {vote.expression} {vote.confidence:.0%}" for name, vote in votes.items())
