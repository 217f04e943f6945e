"""``manet-train``: prepare a data set, fit a recipe, evaluate weights, report on runs, pack weights for the wheel."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from manet.backends.base import BackendName, Device, PrecisionName
from manet.backends.factory import load_backend
from manet.errors import ManetError
from manet.files import atomic_write
from manet.stop import Stop
from manet.weights.registry import INT8_SUFFIX, locate, resolve
from training.data.datasets import Name, load, packed, without_broken
from training.data.datasets.expression_set import LabelKind, Split
from training.data.face_clusters import CLUSTERS, clustered
from training.data.face_embedding import FaceEmbedding
from training.data.prepare import NOT_FOUND, Preparable, prepare
from training.distributed import available_threads, default_readers, joined
from training.dry_run import rehearse
from training.errors import TrainingError
from training.eval.measure import measure, need_same_classes
from training.eval.plots import draw_confusion
from training.eval.report import report, rewrite_table
from training.export.packing import pack_run
from training.export.quantize import quantize
from training.fit import train
from training.job import Order
from training.provenance import commit, machine
from training.run_dir import RunFolder

DATA = "MANET_DATA_DIR"
"""Environment variable that names the folder of data sets."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _root() -> None:
    """Train and evaluate MA-Net."""


@app.command()
def fit(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="name of a recipe, such as ferplus, or a .toml file")] = None,
    data: Annotated[Path | None, typer.Option(help="folder that holds the data set", envvar=DATA)] = None,
    out: Annotated[Path | None, typer.Option(help="new folder for the run")] = None,
    init: Annotated[str | None, typer.Option(help="weights to begin from: an id, a checkpoint or a backbone")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="a field of the recipe to set otherwise, such as epochs=2")
    ] = None,
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
    skip_broken: Annotated[bool, typer.Option(help="leave out images that cannot be read")] = False,
    dry_run: Annotated[bool, typer.Option(help="check everything, say what it will take, and train nothing")] = False,
    teachers: Annotated[
        list[Path] | None, typer.Option("--teacher", help="weights whose answers become a part of the targets")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="seconds there are: the recipe is shortened to fit, and stops in time", min=1)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="folder of a stopped run to continue; --data says where its data moved")
    ] = None,
    save_every: Annotated[float, typer.Option(help="seconds between two checkpoints", min=0)] = 300.0,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the network", min=1)] = None,
    workers: Annotated[
        int | None, typer.Option(help="processes that read images; by default none on a CPU, else one a core")
    ] = None,
) -> None:
    """Train a recipe, or continue a stopped run with --resume; start it with torchrun to train on many devices."""
    began = time.monotonic()
    with joined(os.environ) as world:
        console = Console(soft_wrap=True, quiet=not world.first)
        place = resume or out
        folder = RunFolder(place) if place else None
        if folder is not None and resume is not None:
            # A run knows where its data lie: only the command line says otherwise, not the environment.
            source = context.get_parameter_source("data")
            moved = data if source is not None and source.name == "COMMANDLINE" else None
            order = Order.of(folder, moved, duplicates)
        elif recipe and data and (out or dry_run):
            order = Order.new(
                recipe, changes or (), data, duplicates, init, skip_broken=skip_broken, teachers=teachers or ()
            )
            if folder is not None and world.first:
                folder.need_free()
        else:
            raise typer.BadParameter("give a RECIPE with --data and --out, or --resume")
        torch.set_num_threads(threads or available_threads(os.environ))
        readers = default_readers(world.device, os.environ) if workers is None else workers
        say = _note if world.first else _nothing
        trainer, checked = order.trainer(world, say=say, workers=readers, seconds=time_limit)
        if folder is None or dry_run:
            for line in rehearse(trainer, readers=readers):
                console.print(line)
            return
        if world.first:
            if resume is None:
                folder.create(trainer.recipe, order.facts(trainer, checked))
            else:
                folder.note(data=order.data, duplicates=order.duplicates)
        folder.restore(trainer)
        stop = Stop()
        with stop.on_signals():  # from before the first word, so that whoever reads it may ask for the end
            console.print(
                f"{len(trainer.train)} training and {len(trainer.valid)} {trainer.valid.split} images; "
                f"{trainer.steps_per_epoch} steps an epoch; at step {trainer.steps_done} of {trainer.total_steps}"
            )
            until = None if time_limit is None else began + time_limit
            finished = train(folder, trainer, stop, console, save_every=save_every, until=until)
        console.print(
            "finished" if finished else f"stopped and saved; continue with: manet-train fit --resume {folder.path}"
        )


@app.command("evaluate")
def evaluate_weights(
    dataset: Annotated[Name, typer.Option(help="the data set")],
    data: Annotated[Path, typer.Option(help="folder that holds the data set", envvar=DATA)],
    weights: Annotated[str, typer.Option(help="id of known weights, or a .safetensors file")],
    split: Annotated[Split, typer.Option(help="which part of the data set")] = "valid",
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
    only: Annotated[Path | None, typer.Option(help="list of images to keep, such as the occluded ones")] = None,
    skip_broken: Annotated[bool, typer.Option(help="leave out images that cannot be read")] = False,
    out: Annotated[Path | None, typer.Option("--json", help="file for the result")] = None,
    confusion: Annotated[Path | None, typer.Option(help="file for the confusion matrix as PNG")] = None,
    backend: Annotated[BackendName, typer.Option(help="what runs the network")] = "auto",
    precision: Annotated[PrecisionName, typer.Option(help="the number format that it runs in")] = "auto",
    device: Annotated[Device, typer.Option(help="where it runs")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads for the network; by default torch's choice")] = None,
) -> None:
    """Measure weights on a data set, prepared exactly as the service prepares its faces."""
    chosen = resolve(weights)
    images = load(dataset, data, split, duplicates=duplicates, skip_missing=skip_broken)
    need_same_classes(images, chosen)
    if only is not None:
        images = images.named(only)
    if images.remark is not None:
        _note(f"note: {images.remark}")
    images, complaints = without_broken(images, skip=skip_broken)
    for complaint in complaints:
        _note(f"left out: {complaint}")
    engine = load_backend(chosen, backend=backend, precision=precision, device=device, threads=threads)
    found = measure(images, chosen, engine)
    result = {**found, "commit": commit(), "machine": machine()}
    if out is not None:
        atomic_write(out, lambda part: part.write_text(json.dumps(result, indent=2) + "\n"))
    if confusion is not None:
        draw_confusion(np.array(found["confusion"]), images.classes, confusion)
    Console(soft_wrap=True).print(
        f"{chosen.id} on {dataset} {split}, {found['n']} images: accuracy {found['accuracy']:.2f} %, "
        f"macro recall {found['macro_recall']:.2f} %, expected calibration error {found['calibration_error']:.2f} % "
        f"({found['calibration_error_uncalibrated']:.2f} % before its temperature)"
    )


@app.command("quantize")
def quantize_weights(
    dataset: Annotated[Name, typer.Option(help="the data set; its training images are looked at")],
    data: Annotated[Path, typer.Option(help="folder that holds the data set", envvar=DATA)],
    weights: Annotated[str, typer.Option(help="id of known weights, or a .safetensors file")],
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
    images: Annotated[int, typer.Option(help="how many images to measure with", min=1)] = 300,
    seed: Annotated[int, typer.Option(help="chooses the images")] = 0,
    out: Annotated[Path | None, typer.Option(help="the file to write; by default beside the weights")] = None,
) -> None:
    """Measure between which ends the activations of weights lie, so that they can be served in int8 arithmetic."""
    chosen = resolve(weights)
    target = out or locate(chosen).with_suffix(INT8_SUFFIX)
    digest = quantize(chosen, load(dataset, data, "train", duplicates=duplicates), images, seed, target)
    Console(soft_wrap=True).print(f"{target}: {target.stat().st_size / 1e3:.0f} kB, SHA-256 {digest}")


@app.command("prepare")
def prepare_faces(
    dataset: Annotated[Preparable, typer.Argument(help="the data set")],
    data: Annotated[Path, typer.Option(help="folder that holds it as its owners ship it")],
    out: Annotated[Path, typer.Option(help="folder for the faces; give it again to go on after a stop")],
    processes: Annotated[int | None, typer.Option(help="how many work at once; by default one a core", min=1)] = None,
) -> None:
    """Find, align and cut out the faces of a data set that ships film frames or whole photographs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(soft_wrap=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(dataset)
        found = prepare(
            dataset,
            data,
            out,
            processes=processes or available_threads({}),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{found.faces} faces in {out}; {len(found.missing)} images without, listed in {out / NOT_FOUND}")


@app.command("pack-data")
def pack_data(
    dataset: Annotated[Name, typer.Argument(help="a data set of grey images of one size, such as ferplus")],
    data: Annotated[Path, typer.Option(help="folder that holds the data set", envvar=DATA)],
    out: Annotated[Path, typer.Option(help="the .npz file to write; --data takes it in the folder's place")],
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
) -> None:
    """Pack the training and validation images of a data set into one file, to carry it to another machine."""
    kinds = {kind: load(dataset, data, "train", kind, duplicates=duplicates) for kind in get_args(LabelKind)}
    packed.save({"train": kinds, "valid": {"majority": load(dataset, data, "valid")}}, out)
    Console(soft_wrap=True).print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@app.command("cluster-faces")
def cluster_faces(
    dataset: Annotated[Name, typer.Argument(help="a data set of grey images of one size, such as ferplus")],
    data: Annotated[Path, typer.Option(help="folder or packed file that holds the data set", envvar=DATA)],
    embedding: Annotated[Path, typer.Option(help="folder with face-api's face_recognition_model files")],
    out: Annotated[Path, typer.Option(help="the .npz file to write, for a recipe of the data set identities")],
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
    clusters: Annotated[int, typer.Option(help="how many groups of similar faces", min=2)] = CLUSTERS,
) -> None:
    """Write a data set's images with their shares of groups of similar faces, for an identity stage."""
    train = load(dataset, data, "train", "all_votes" if dataset == "ferplus" else "majority", duplicates=duplicates)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    both = clustered(train, load(dataset, data, "valid"), FaceEmbedding(embedding, device), count=clusters)
    packed.save({"train": {"majority": both[0]}, "valid": {"majority": both[1]}}, out)
    Console(soft_wrap=True).print(
        f"{out}: {clusters} clusters of {len(train)} faces, {out.stat().st_size / 1e6:.1f} MB"
    )


@app.command("report")
def write_report(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs on one data set")],
    out: Annotated[Path, typer.Option(help="folder for the report")],
    evaluation: Annotated[list[Path] | None, typer.Option(help="a result of evaluate --json to show in it")] = None,
    appendix: Annotated[list[Path] | None, typer.Option(help="a Markdown file to append")] = None,
    readme: Annotated[Path | None, typer.Option(help="README whose table of benchmarks to write again")] = None,
) -> None:
    """Write one Markdown and one JSON on runs, beside the authors' figures, with their logs and images."""
    made = report([RunFolder(run) for run in runs], evaluation or (), appendix or (), out)
    if readme is not None:
        rewrite_table(readme, out.parent)
    Console(soft_wrap=True).print(f"{made}")


@app.command()
def pack(
    run: Annotated[Path, typer.Argument(help="folder of a run")],
    out: Annotated[Path, typer.Option(help="the file to write")],
    provenance: Annotated[str, typer.Option(help="one line on where the weights come from, kept in the file")],
) -> None:
    """Write a run's best weights as a small calibrated file: int8 storage, temperature fitted on validation."""
    packed = pack_run(RunFolder(run), out, provenance)
    Console(soft_wrap=True).print(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, SHA-256 {packed.sha256}, temperature {packed.temperature:.4f}"
    )


def _note(line: str) -> None:
    typer.secho(line, fg="yellow", err=True)


def _nothing(line: str) -> None:
    """Say nothing: the first of several processes speaks for all."""


def main() -> None:
    """Run the command line; what can go wrong with data, weights and files is one red line and exit status 2."""
    try:
        app()
    except (TrainingError, ManetError, OSError) as error:
        typer.secho(" ".join(str(error).split()), fg="red", err=True)
        raise SystemExit(2) from None
