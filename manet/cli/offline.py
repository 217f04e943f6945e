"""``manet predict --executor ray``: millions of images on a Ray cluster, into a folder of Parquet files."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from manet.backends.base import BackendName, Device, PrecisionName
from manet.batch.terminal import say_passed_over
from manet.recognizer import FaceMode
from manet.weights.registry import resolve


def predict_on_ray(
    paths: Sequence[Path],
    out: Path | None,
    *,
    weights: str,
    faces: FaceMode,
    max_faces: int,
    device: Device,
    backend: BackendName,
    precision: PrecisionName,
    store: Path | None,
    part_images: int,
    column: str,
    name_column: str | None,
    address: str | None,
    gpus: float,
) -> None:
    """Answer the images, and show the progress on standard error; see ``manet.offline``.

    Raises:
        typer.BadParameter: if no folder is named, or Ray is not installed.
        OfflineRunError: see ``manet.offline.pipeline.predict_at_scale``.
    """
    if find_spec("ray") is None:
        raise typer.BadParameter("--executor ray needs Ray, which is not installed: pip install 'manet[ray]'")
    if out is None or out.suffix:
        raise typer.BadParameter("--executor ray writes a folder of Parquet files: name it with --out")
    from manet.offline.loading import Resources  # noqa: PLC0415
    from manet.offline.pipeline import Progress, predict_at_scale  # noqa: PLC0415 -- an extra
    from manet.offline.plan import Job  # noqa: PLC0415

    job = Job(
        sources=tuple(str(path.absolute()) for path in paths),
        weights=weights,
        sha256=resolve(weights, store).sha256,
        faces=faces,
        max_faces=max_faces,
        part_images=part_images,
        column=column,
        name_column=name_column,
        backend=backend,
        precision=precision,
    )
    console = Console(stderr=True)
    columns = (TextColumn("parts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    images = unread = found = 0
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=None)

        def report(progress: Progress) -> None:
            nonlocal images, unread, found
            say_passed_over(console, progress.passed_over)
            bar.update(task, total=progress.parts, completed=progress.finished)
            if progress.last is not None:
                images += progress.last.images
                unread += progress.last.unread
                found += progress.last.faces

        resources = Resources(network_gpus=gpus, device=device, store=store)
        predict_at_scale(job, out.absolute(), resources=resources, address=address, report=report)
    console.print(f"{images:,} images in this run, {unread:,} of them unreadable, {found:,} faces")
