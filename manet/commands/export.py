"""``manet export``: networks exported ahead of time, for machines and images that have no PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from manet.commands.weights import Store
from manet.errors import ExportError
from manet.weights import resolve

_MEGABYTE = 1e6


def export(
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder to keep it in: MANET_CACHE_DIR, here and where it is served, else the platform's."),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="One of those that `manet weights list` shows, or a file of manet-train's.")
    ] = "ferplus",
    store: Store = None,
) -> None:
    """Export a network for OpenVINO; one that the folder holds already is checked and left as it is."""
    try:
        # Imported late: of all commands only this one needs OpenVINO.
        from manet.backends import openvino  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ExportError("OpenVINO is not installed: pip install openvino") from None
    chosen = resolve(weights, store)
    folder = openvino.exported(chosen, store, cache).parent
    size = sum(file.stat().st_size for file in folder.iterdir())
    typer.echo(f"{chosen.id}  {folder}  {size / _MEGABYTE:.0f} MB")
