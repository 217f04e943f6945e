"""``manet-train``: prepare data sets, train recipes, evaluate weights, report on runs, pack weights for release."""

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
from training.data.face_clusters import CLUSTERS, cluster_set
from training.data.face_embedding import FaceEmbedding
from training.data.prepare import NOT_FOUND, Preparable, prepare
from training.distributed import available_threads, default_workers, init_distributed
from training.dry_run import dry_run_report
from training.errors import TrainingError
from training.eval.measure import measure, require_same_classes
from training.eval.plots import draw_confusion
from training.eval.report import report, rewrite_table
from training.export.packing import pack_run
from training.export.quantize import quantize
from training.fit import train
from training.job import TrainingJob
from training.provenance import commit, machine
from training.run_dir import RunDir

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
    data: Annotated[Path | None, typer.Option(help="folder of the data set", envvar=DATA)] = None,
    out: Annotated[Path | None, typer.Option(help="new folder for the run")] = None,
    init: Annotated[str | None, typer.Option(help="initial weights: an id, a checkpoint or a backbone")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="a field of the recipe to override, such as epochs=2")
    ] = None,
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
    skip_broken: Annotated[bool, typer.Option(help="leave out images that cannot be read")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="check everything, estimate time and memory, and train nothing")
    ] = False,
    teachers: Annotated[
        list[Path] | None, typer.Option("--teacher", help="weights whose predictions become a part of the targets")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="time limit in seconds: the recipe is shortened to fit", min=1)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="folder of a stopped run to continue; --data if its data have moved")
    ] = None,
    save_every: Annotated[float, typer.Option(help="seconds between checkpoints", min=0)] = 300.0,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the network", min=1)] = None,
    workers: Annotated[
        int | None, typer.Option(help="worker processes that read images; by default none on a CPU, else one per core")
    ] = None,
) -> None:
    """Train a recipe, or continue a stopped run with --resume; start it with torchrun to train on several devices."""
    began = time.monotonic()
    with init_distributed(os.environ) as world:
        console = Console(soft_wrap=True, quiet=not world.is_main)
        path = resume or out
        folder = RunDir(path) if path else None
        if folder is not None and resume is not None:
            # run.json has the data's folder: only the command line overrides it, not the environment.
            source = context.get_parameter_source("data")
            moved = data if source is not None and source.name == "COMMANDLINE" else None
            job = TrainingJob.from_run(folder, moved, duplicates)
        elif recipe and data and (out or dry_run):
            job = TrainingJob.new(
                recipe, changes or (), data, duplicates, init, skip_broken=skip_broken, teachers=teachers or ()
            )
            if folder is not None and world.is_main:
                folder.require_free()
        else:
            raise typer.BadParameter("give a RECIPE with --data and --out, or --resume")
        torch.set_num_threads(threads or available_threads(os.environ))
        workers = default_workers(world.device, os.environ) if workers is None else workers
        notify = _note if world.is_main else _ignore
        trainer, checked = job.trainer(world, notify=notify, workers=workers, seconds=time_limit)
        if folder is None or dry_run:
            for line in dry_run_report(trainer, workers=workers):
                console.print(line)
            return
        if world.is_main:
            if resume is None:
                folder.create(trainer.recipe, job.facts(trainer, checked))
            else:
                folder.update_facts(data=job.data, duplicates=job.duplicates)
        folder.restore(trainer)
        stop = Stop()
        with stop.on_signals():  # before the first line of output, after which a client may send a signal
            console.print(
                f"{len(trainer.train)} training and {len(trainer.valid)} {trainer.valid.split} images; "
                f"{trainer.steps_per_epoch} steps per epoch; at step {trainer.steps_done} of {trainer.total_steps}"
            )
            until = None if time_limit is None else began + time_limit
            finished = train(folder, trainer, stop, console, save_every=save_every, until=until)
        console.print(
            "finished" if finished else f"stopped and saved; continue with: manet-train fit --resume {folder.path}"
        )


@app.command("evaluate")
def evaluate_weights(
    dataset: Annotated[Name, typer.Option(help="the data set")],
    data: Annotated[Path, typer.Option(help="folder of the data set", envvar=DATA)],
    weights: Annotated[str, typer.Option(help="id of known weights, or a .safetensors file")],
    split: Annotated[Split, typer.Option(help="which split of the data set")] = "valid",
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
    only: Annotated[Path | None, typer.Option(help="list of images to evaluate on, such as the occluded ones")] = None,
    skip_broken: Annotated[bool, typer.Option(help="leave out images that cannot be read")] = False,
    out: Annotated[Path | None, typer.Option("--json", help="file for the result")] = None,
    confusion: Annotated[Path | None, typer.Option(help="file for the confusion matrix as PNG")] = None,
    backend: Annotated[BackendName, typer.Option(help="runtime of the network")] = "auto",
    precision: Annotated[PrecisionName, typer.Option(help="number format of the network")] = "auto",
    device: Annotated[Device, typer.Option(help="device of the network")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads for the network; by default PyTorch's choice")
    ] = None,
) -> None:
    """Evaluate weights on a data set, with the preprocessing of the service."""
    chosen = resolve(weights)
    images = load(dataset, data, split, duplicates=duplicates, skip_missing=skip_broken)
    require_same_classes(images, chosen)
    if only is not None:
        images = images.only_listed(only)
    if images.remark is not None:
        _note(f"note: {images.remark}")
    images, errors = without_broken(images, skip=skip_broken)
    for error in errors:
        _note(f"left out: {error}")
    loaded = load_backend(chosen, backend=backend, precision=precision, device=device, threads=threads)
    found = measure(images, chosen, loaded)
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
    dataset: Annotated[Name, typer.Option(help="the data set; its training images are used")],
    data: Annotated[Path, typer.Option(help="folder of the data set", envvar=DATA)],
    weights: Annotated[str, typer.Option(help="id of known weights, or a .safetensors file")],
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
    images: Annotated[int, typer.Option(help="how many images to use", min=1)] = 300,
    seed: Annotated[int, typer.Option(help="seed of the choice of images")] = 0,
    out: Annotated[Path | None, typer.Option(help="output file; by default beside the weights")] = None,
) -> None:
    """Calibrate int8 quantisation: measure the ranges of the activations of weights."""
    chosen = resolve(weights)
    target = out or locate(chosen).with_suffix(INT8_SUFFIX)
    digest = quantize(chosen, load(dataset, data, "train", duplicates=duplicates), images, seed, target)
    Console(soft_wrap=True).print(f"{target}: {target.stat().st_size / 1e3:.0f} kB, SHA-256 {digest}")


@app.command("prepare")
def prepare_faces(
    dataset: Annotated[Preparable, typer.Argument(help="the data set")],
    data: Annotated[Path, typer.Option(help="folder of the data set as its owners ship it")],
    out: Annotated[Path, typer.Option(help="output folder for the faces; give it again to continue after a stop")],
    processes: Annotated[int | None, typer.Option(help="number of processes; by default one per core", min=1)] = None,
) -> None:
    """Detect, align and crop the faces of a data set that ships film frames or whole photographs."""
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
    console.print(
        f"{found.faces} faces in {out}; {len(found.missing)} images without a face, listed in {out / NOT_FOUND}"
    )


@app.command("pack-data")
def pack_data(
    dataset: Annotated[Name, typer.Argument(help="a data set of grey images of one size, such as ferplus")],
    data: Annotated[Path, typer.Option(help="folder of the data set", envvar=DATA)],
    out: Annotated[Path, typer.Option(help="output .npz file; --data takes it instead of the folder")],
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
) -> None:
    """Pack the training and validation images of a data set into one file, to copy it to another machine."""
    kinds = {kind: load(dataset, data, "train", kind, duplicates=duplicates) for kind in get_args(LabelKind)}
    packed.save({"train": kinds, "valid": {"majority": load(dataset, data, "valid")}}, out)
    Console(soft_wrap=True).print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@app.command("cluster-faces")
def cluster_faces(
    dataset: Annotated[Name, typer.Argument(help="a data set of grey images of one size, such as ferplus")],
    data: Annotated[Path, typer.Option(help="folder or packed file of the data set", envvar=DATA)],
    embedding: Annotated[Path, typer.Option(help="folder with face-api's face_recognition_model files")],
    out: Annotated[Path, typer.Option(help="output .npz file, for a recipe of the data set identities")],
    duplicates: Annotated[Path | None, typer.Option(help="CSV of images to leave out")] = None,
    clusters: Annotated[int, typer.Option(help="number of clusters of similar faces", min=2)] = CLUSTERS,
) -> None:
    """Write a data set with clusters of similar faces as soft targets, for an identity stage."""
    train = load(dataset, data, "train", "all_votes" if dataset == "ferplus" else "majority", duplicates=duplicates)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_set, valid_set = cluster_set(
        train, load(dataset, data, "valid"), FaceEmbedding(embedding, device), count=clusters
    )
    packed.save({"train": {"majority": train_set}, "valid": {"majority": valid_set}}, out)
    Console(soft_wrap=True).print(
        f"{out}: {clusters} clusters of {len(train)} faces, {out.stat().st_size / 1e6:.1f} MB"
    )


@app.command("report")
def write_report(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs on one data set")],
    out: Annotated[Path, typer.Option(help="folder for the report")],
    evaluation: Annotated[list[Path] | None, typer.Option(help="a result of evaluate --json to include")] = None,
    appendix: Annotated[list[Path] | None, typer.Option(help="a Markdown file to append")] = None,
    readme: Annotated[Path | None, typer.Option(help="README whose table of benchmarks to update")] = None,
) -> None:
    """Write a report on runs as Markdown and JSON, beside the authors' figures, with logs and plots."""
    written = report([RunDir(run) for run in runs], evaluation or (), appendix or (), out)
    if readme is not None:
        rewrite_table(readme, out.parent)
    Console(soft_wrap=True).print(f"{written}")


@app.command()
def pack(
    run: Annotated[Path, typer.Argument(help="folder of a run")],
    out: Annotated[Path, typer.Option(help="output file")],
    provenance: Annotated[str, typer.Option(help="one line on the origin of the weights, stored in the file")],
) -> None:
    """Write a run's best weights in int8 storage, with a temperature fitted on the validation images."""
    packed = pack_run(RunDir(run), out, provenance)
    Console(soft_wrap=True).print(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, SHA-256 {packed.sha256}, temperature {packed.temperature:.4f}"
    )


def _note(line: str) -> None:
    typer.secho(line, fg="yellow", err=True)


def _ignore(line: str) -> None:
    """Print nothing: only the main process prints."""


def main() -> None:
    """Run the command line; errors of data, weights and files are one red line and exit status 2."""
    try:
        app()
    except (TrainingError, ManetError, OSError) as error:
        typer.secho(" ".join(str(error).split()), fg="red", err=True)
        raise SystemExit(2) from None
