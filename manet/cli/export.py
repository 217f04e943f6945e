"""``manet export``: networks exported ahead of time, for machines and images that have no PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from manet.cli.weights import Store
from manet.errors import ExportError
from manet.weights.registry import locate_calibration, resolve

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
    """Export a network for OpenVINO in all its number formats; what the folder holds already is checked and left."""
    try:
        # Imported late: of all commands only this one needs OpenVINO.
        from manet.backends.openvino import exports  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ExportError("OpenVINO is not installed: pip install openvino") from None
    chosen = resolve(weights, store)
    formats = {"float32, bf16": False, "int8": True}
    if locate_calibration(chosen, store) is None:
        del formats["int8"]
    for name, int8 in formats.items():
        folder = exports.exported(chosen, store, cache, int8=int8).parent
        size = sum(file.stat().st_size for file in folder.iterdir())
        typer.echo(f"{chosen.id}  {name}  {folder}  {size / _MEGABYTE:.0f} MB")
