"""``manet-train``: fit a recipe, go on with a run, evaluate weights, pack them for the wheel."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from manet.backends import load_backend
from manet.errors import ManetError
from manet.files import write_whole
from manet.weights import resolve
from training import recipe as recipes
from training.datasets import Name, load
from training.datasets.expression_set import DatasetError, ExpressionSet, Split
from training.initial import start
from training.loop import Trainer
from training.measure import measure
from training.packing import pack_run
from training.run import RunFolder, Stop, commit, machine, train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _root() -> None:
    """Train and evaluate MA-Net."""


@app.command()
def fit(
    recipe: Annotated[str | None, typer.Argument(help="name of a recipe, such as ferplus")] = None,
    data: Annotated[Path | None, typer.Option(help="folder that holds the data set")] = None,
    out: Annotated[Path | None, typer.Option(help="new folder for the run")] = None,
    init: Annotated[str | None, typer.Option(help="weights to begin from: an id, or a checkpoint's file")] = None,
    duplicates: Annotated[Path | None, typer.Option(help="CSV of pictures to leave out")] = None,
    resume: Annotated[Path | None, typer.Option(help="folder of a stopped run to continue")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the network; by default torch's choice")] = None,
) -> None:
    """Train a recipe, or continue a stopped run with --resume."""
    console = Console(soft_wrap=True)
    if resume is not None:
        folder = RunFolder(resume)
    elif recipe and data and out:
        folder = RunFolder(out)
        folder.create(recipes.load(recipe), _facts(recipe, data, duplicates, init))
    else:
        raise typer.BadParameter("give a RECIPE with --data and --out, or --resume")
    if threads:
        torch.set_num_threads(threads)
    facts = folder.facts()
    chosen = folder.recipe()
    source, leave_out = Path(facts["data"]), facts["duplicates"] and Path(facts["duplicates"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(
        chosen,
        load(chosen.dataset, source, "train", chosen.labels, duplicates=leave_out),
        load(chosen.dataset, source, "valid"),
        device=device,
        start=start(facts["init"], chosen) if facts["init"] and not folder.checkpoint.exists() else None,
    )
    folder.restore(trainer)
    for pictures in (trainer.train, trainer.valid):
        _remark(pictures)
    stop = Stop()
    with stop.on_signals():  # from before the first word, so that whoever reads it may ask for the end
        console.print(
            f"{len(trainer.train)} training and {len(trainer.valid)} validation pictures; "
            f"{trainer.steps_per_epoch} steps an epoch; at step {trainer.steps_done} of {trainer.total_steps}"
        )
        finished = train(folder, trainer, stop, console)
    console.print(
        "finished" if finished else f"stopped and saved; continue with: manet-train fit --resume {folder.path}"
    )


@app.command("evaluate")
def evaluate_weights(
    dataset: Annotated[Name, typer.Option(help="the data set")],
    data: Annotated[Path, typer.Option(help="folder that holds the data set")],
    weights: Annotated[str, typer.Option(help="id of known weights, or a .safetensors file")],
    split: Annotated[Split, typer.Option(help="which part of the data set")] = "valid",
    duplicates: Annotated[Path | None, typer.Option(help="CSV of pictures to leave out")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="file for the result")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the network; by default torch's choice")] = None,
) -> None:
    """Measure weights on a data set, prepared exactly as the service prepares its faces."""
    pictures = load(dataset, data, split, duplicates=duplicates)
    _remark(pictures)
    chosen = resolve(weights)
    found = measure(pictures, chosen, load_backend(chosen, threads=threads))
    result = {**found, "commit": commit(), "machine": machine()}
    if out is not None:
        write_whole(out, lambda part: part.write_text(json.dumps(result, indent=2) + "\n"))
    Console(soft_wrap=True).print(
        f"{chosen.id} on {dataset} {split}, {found['n']} pictures: accuracy {found['accuracy']:.2f} %, "
        f"macro recall {found['macro_recall']:.2f} %, expected calibration error {found['calibration_error']:.2f} %"
    )


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


def _remark(pictures: ExpressionSet) -> None:
    if pictures.remark is not None:
        typer.secho(f"note: {pictures.remark}", fg="yellow", err=True)


def _facts(recipe: str, data: Path, duplicates: Path | None, init: str | None) -> dict[str, object]:
    return {
        "recipe": recipe,
        "data": str(data.resolve()),
        "duplicates": str(duplicates.resolve()) if duplicates else None,
        "init": init and (str(Path(init).resolve()) if Path(init).is_file() else init),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
    }


def main() -> None:
    """Run the command line; what can go wrong with data, weights and files is one red line and exit status 2."""
    try:
        app()
    except (DatasetError, ManetError, OSError) as error:
        typer.secho(" ".join(str(error).split()), fg="red", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
