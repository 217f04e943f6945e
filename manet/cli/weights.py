"""``manet weights``: the known weights, their facts, and the import of the authors' checkpoints."""

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from manet.errors import CheckpointError, WeightsNotInstalledError
from manet.files import record_sha256, sha256_of
from manet.nn.wiring import Wiring
from manet.weights.entry import Measurement, Weights
from manet.weights.header import Header
from manet.weights.registry import STORE_VARIABLE, as_installed, default_store, get, locate, names

app = typer.Typer(no_args_is_help=True, help="List, describe and import weights.")

Store = Annotated[
    Path | None,
    typer.Option(
        help="Folder of imported weights; by default the platform's place for such data.", envvar=STORE_VARIABLE
    ),
]


@app.command("list")
def list_weights(store: Store = None) -> None:
    """Show all known weights, one a line."""
    table = Table("id", "classes", "input", "accuracy %", "images", "installed", box=None, pad_edge=False)
    for weights in map(get, names()):
        figures = next(iter((*weights.measured, *weights.published)), None)
        state = _state(weights, store)
        if figures is None:
            accuracy = "-"
        elif weights.measured:
            accuracy = f"{figures.accuracy:.2f} measured"
        elif state == "no":
            accuracy = f"{figures.accuracy:.2f} published"
        else:
            # No one knows whether the file that was imported is the one that the figure belongs to.
            accuracy = "published for the authors' file"
        table.add_row(
            weights.id,
            str(len(weights.classes)),
            f"{weights.preprocessing.input_size} px {weights.preprocessing.colour}",
            accuracy,
            "-" if figures is None else f"{figures.split}, {figures.n:,}",
            state,
        )
    Console().print(table)


@app.command()
def show(
    weights_id: Annotated[str, typer.Argument(metavar="ID", help="One of those that `manet weights list` shows.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    store: Store = None,
) -> None:
    """Show every fact about some weights."""
    weights = get(weights_id)
    path = _path(weights, store)
    if path is not None:
        weights = as_installed(weights, store)
    facts: dict[str, Any] = {**asdict(weights), "path": None if path is None else str(path)}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), Text(_text(name, value, weights)))
    Console().print(table)


@app.command("import")
def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of the authors' (a pickle).")],
    dataset: Annotated[str, typer.Option(help="What it was trained on: the id of one of the authors' weights.")],
    wiring: Annotated[
        Wiring | None, typer.Option(help="Which release of the authors' code trained it, where that is known.")
    ] = None,
    store: Store = None,
) -> None:
    """Convert one of the authors' checkpoints into the store; nothing in the file is run."""
    weights = get(dataset)
    if weights.shipped or weights.file is None:
        raise CheckpointError(f"weights {weights.id!r} are not the authors': nothing can be imported as them")
    if find_spec("torch") is None:
        raise typer.BadParameter(
            "the authors' checkpoints are PyTorch's, which is not installed: pip install 'manet[gpu]'"
        )
    # Imported late: only this command needs PyTorch, which takes seconds to load.
    from manet.weights.checkpoint import read_authors_checkpoint, save_weights  # noqa: PLC0415

    state = read_authors_checkpoint(file, num_classes=len(weights.classes))
    source_sha256 = sha256_of(file)
    header = Header(
        classes=weights.classes,
        wiring=weights.wiring if wiring is None else wiring,
        provenance=weights.provenance,
        source_sha256=source_sha256,
    )
    path = (default_store() if store is None else store) / weights.file
    replaced = path.exists()
    save_weights(state, path, header)
    digest = record_sha256(path)
    typer.echo(f"read      {file}  {len(state)} tensors, SHA-256 {source_sha256}")
    typer.echo(f"{'replaced' if replaced else 'wrote   '}  {path}  SHA-256 {digest}")
    typer.echo(
        f"wiring    {header.wiring}, {'inferred from the year of publication' if wiring is None else 'as given'}"
    )
    for figures in weights.published:
        typer.secho(
            f"warning: {figures.accuracy:.2f} % on {figures.dataset} {figures.split} ({figures.n:,} images) is what "
            "the authors published; no one measured this file here",
            fg="yellow",
            err=True,
        )


def _path(weights: Weights, store: Path | None) -> Path | None:
    """Return where the weights lie, or None where they are not installed."""
    try:
        return locate(weights, store)
    except WeightsNotInstalledError:
        return None


def _state(weights: Weights, store: Path | None) -> str:
    """Return one word on whether the weights are here; a damaged copy must not hide the others from a list."""
    try:
        return "no" if _path(weights, store) is None else "yes"
    except CheckpointError:
        return "damaged"


def _text(name: str, value: Any, weights: Weights) -> str:
    """Return a fact for a person to read."""
    if name in {"measured", "published"}:
        return "\n".join(map(_sentence, getattr(weights, name))) or "-"
    match value:
        case None:
            return "-"
        case dict():
            return ", ".join(f"{key.replace('_', ' ')} {_text(key, part, weights)}" for key, part in value.items())
        case [*items] if all(isinstance(item, str) for item in items):
            return ("\n" if name == "limits" else ", ").join(items)
        case _:
            return str(value)


def _sentence(figures: Measurement) -> str:
    parts = [f"{figures.accuracy:.2f} % on {figures.dataset} {figures.split} ({figures.n:,} images)"]
    if figures.last is not None:
        parts.append(f"last epoch {figures.last:.2f}")
    if figures.mean_of_last_ten is not None:
        parts.append(f"mean of the last ten {figures.mean_of_last_ten:.2f}")
    if figures.macro_recall is not None:
        parts.append(f"macro recall {figures.macro_recall:.2f}")
    return f"{', '.join(parts)}; {figures.protocol}; source: {figures.source}"
