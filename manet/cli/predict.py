"""``manet predict``: apparent expressions of the faces in image files and folders of them."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from manet.backends.base import BackendName, Device, PrecisionName
from manet.cli.local import Outputs, predict_locally
from manet.cli.offline import predict_on_ray
from manet.cli.weights import Store
from manet.recognizer import MAX_FACES, FaceMode, Recognizer
from manet.video.names import is_clip
from manet.vision.formats import ONE_OF_THE_FORMATS


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help=f"Images ({ONE_OF_THE_FORMATS}) and folders of them; or one clip."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line and file, or frame.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the answers as .csv, .jsonl or .parquet.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a contact sheet of all faces as .png.")
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Write the image, or the clip, with boxes and names; a folder for several images."
        ),
    ] = None,
    weights: Annotated[str, typer.Option(help="One of those that `manet weights list` shows.")] = "ferplus",
    faces: Annotated[
        FaceMode,
        typer.Option(help="Detect faces; small ones too, in five times the time; or take each as one."),
    ] = "detect",
    max_faces: Annotated[int, typer.Option(min=1, help="The most faces to answer in an image.")] = MAX_FACES,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = "auto",
    backend: Annotated[BackendName, typer.Option(help="What runs it.")] = "auto",
    precision: Annotated[PrecisionName, typer.Option(help="The number format that it runs in.")] = "auto",
    store: Store = None,
    executor: Annotated[
        Literal["local", "ray"],
        typer.Option(help="This process, or a Ray cluster, which writes a folder of Parquet files named by --out."),
    ] = "local",
    part_images: Annotated[int, typer.Option(min=1, help="With ray: images in each file of answers.")] = 1000,
    column: Annotated[str, typer.Option(help="With ray: the column of Parquet files that holds images.")] = "image",
    name_column: Annotated[
        str | None, typer.Option(help="With ray: the column that names them; by default they are numbered.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="With ray: the cluster; by default RAY_ADDRESS, or one is started here.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="With ray: GPUs that each network reserves.")] = 0.0,
) -> None:
    """Name the apparent expression of each face, with its probability.

    Folders are searched to the bottom; hidden files, and files whose names do not end like an image's, are passed
    over and counted by kind. Files that could not be read are listed at the end. The exit status is 1 if there are
    any, or no image at all, and 130 after Ctrl-C, which finishes the images in flight and leaves whole files.

    Of a clip, such as an .mp4, each frame is answered: --out has a row for each face of each frame, --draw is a copy
    that keeps the sound. Where neither they nor --json are given, both are made beside the clip: CLIP-faces.csv and
    CLIP-faces.mp4.
    """
    load = partial(_recognizer, weights, backend, precision, device, store)
    if any(is_clip(path) for path in paths):
        _check_clip(alone=len(paths) == 1 and sheet is None and executor == "local")
        from manet.cli.video import Targets, predict_on_clip  # noqa: PLC0415 - an extra

        targets = Targets(as_json=as_json, out=out, draw=draw)
        predict_on_clip(paths[0], targets, load, faces=faces, max_faces=max_faces)
        return
    if executor == "ray":
        predict_on_ray(
            paths,
            out,
            weights=weights,
            faces=faces,
            max_faces=max_faces,
            device=device,
            backend=backend,
            precision=precision,
            store=store,
            part_images=part_images,
            column=column,
            name_column=name_column,
            address=address,
            gpus=gpus,
        )
        return
    predict_locally(paths, Outputs(as_json, out, sheet, draw), load, faces=faces, max_faces=max_faces)


def _recognizer(
    weights: str, backend: BackendName, precision: PrecisionName, device: Device, store: Path | None
) -> Recognizer:
    try:
        return Recognizer.from_weights(weights, backend=backend, precision=precision, device=device, store=store)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _check_clip(*, alone: bool) -> None:
    """Make sure that a clip can be answered: nothing else is requested, and what it needs is installed."""
    if not alone:
        raise typer.BadParameter("a clip is answered by itself: without other files, --sheet and --executor ray")
    if find_spec("av") is None:
        raise typer.BadParameter("clips need PyAV, which is not installed: pip install 'manet[video]'")
