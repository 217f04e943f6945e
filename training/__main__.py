"""``manet-train``: fit a recipe, go on with a run, evaluate weights."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from training import recipe as recipes
from training.datasets import ferplus
from training.loop import Trainer
from training.run import RunFolder, Stop, machine, train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _root() -> None:
    """Train and evaluate MA-Net."""


@app.command()
def fit(
    recipe: Annotated[str | None, typer.Argument(help="name of a recipe, such as ferplus")] = None,
    data: Annotated[Path | None, typer.Option(help="folder that holds the data set")] = None,
    out: Annotated[Path | None, typer.Option(help="new folder for the run")] = None,
    duplicates: Annotated[Path | None, typer.Option(help="CSV of pictures to leave out")] = None,
    resume: Annotated[Path | None, typer.Option(help="folder of a stopped run to continue")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the network; by default torch's choice")] = None,
) -> None:
    """Train a recipe, or continue a stopped run with --resume."""
    console = Console()
    if resume is not None:
        folder = RunFolder(resume)
    elif recipe and data and out:
        folder = RunFolder(out)
        folder.create(recipes.load(recipe), _facts(recipe, data, duplicates))
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
        ferplus.load(source, "train", chosen.labels, leave_out),
        ferplus.load(source, "valid", "majority"),
        device=device,
    )
    folder.restore(trainer)
    console.print(
        f"{len(trainer.train)} training and {len(trainer.valid)} validation pictures; "
        f"{trainer.steps_per_epoch} steps an epoch; at step {trainer.steps_done} of {trainer.total_steps}"
    )
    stop = Stop()
    with stop.on_signals():
        finished = train(folder, trainer, stop, console)
    console.print("finished" if finished else f"stopped and saved; continue with: manet-train fit --resume {folder.path}")


def _facts(recipe: str, data: Path, duplicates: Path | None) -> dict[str, object]:
    return {
        "recipe": recipe,
        "data": str(data.resolve()),
        "duplicates": str(duplicates.resolve()) if duplicates else None,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
    }


def _commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip() or None


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
