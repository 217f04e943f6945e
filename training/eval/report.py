"""Report: the results of runs on one data set, beside the authors' figures; and the README's table of all of them."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from manet.files import atomic_write
from training.errors import TrainingError
from training.eval.plots import draw_confusion
from training.eval.published import PublishedRun, published_run
from training.files import read_text
from training.run_dir import RunDir

BEGIN, END = "<!-- benchmarks: written by manet-train report -->", "<!-- end of benchmarks -->"
COPIED_FILES = ("recipe.json", "log.csv", "curve.png", "best.json", "confusion.png")
"""Files of a run that are copied beside its report."""

BENCHMARKS: Mapping[str, str] = {
    "raf_db": "RAF-DB",
    "affectnet7": "AffectNet-7",
    "affectnet8": "AffectNet-8",
    "caer_s": "CAER-S",
    "sfew": "SFEW 2.0",
    "fed_ro": "FED-RO",
    "ferplus": "FER+",
}
"""Data sets of the README's table, in its order."""


EVALUATION_KEYS = frozenset(
    (
        *("dataset", "split", "protocol", "n", "accuracy", "macro_recall", "per_class", "confusion", "temperature"),
        *("calibration_error", "calibration_error_uncalibrated", "weights", "backend", "commit"),
    )
)
"""Keys of a result of ``manet-train evaluate --json``."""


SHOWN_FACTS = (
    *("recipe", "train.n", "train.protocol", "eval.split", "eval.n", "eval.protocol", "processes", "device"),
    *("started", "commit", "machine.processor", "machine.cores", "machine.torch"),
)
"""Facts of a run that its report shows."""


class ReportError(TrainingError):
    """The runs, evaluations or files of a report are not valid."""


def report(runs: Sequence[RunDir], evaluations: Sequence[Path], appendices: Sequence[Path], out: Path) -> Path:
    """Write ``report.md`` and ``report.json``, and beside them each run's recipe, log and images.

    Args:
        runs: finished or not, all on one data set.
        evaluations: results of ``manet-train evaluate --json``.
        appendices: Markdown files that follow, each under its own heading.
        out: folder to write to.

    Returns:
        The Markdown's path.

    Raises:
        ReportError: if a run has finished no epoch, the runs are on several data sets, or an evaluation or an
            appendix cannot be read.
        RunError: if a folder contains no run, or a broken one.
    """
    described = [_described(run) for run in runs]
    datasets = {run["dataset"] for run in described}
    if len(datasets) != 1:
        raise ReportError(f"one report is on one data set, not on {', '.join(sorted(datasets))}")
    [dataset] = datasets
    content = {
        "dataset": dataset,
        "authors": _authors(published_run(dataset)),
        "runs": described,
        "seeds": _seeds(described),
        "evaluations": [_evaluated(path) for path in evaluations],
    }
    for run in runs:
        (out / run.path.name).mkdir(parents=True, exist_ok=True)
        for name in COPIED_FILES:
            if (run.path / name).exists():
                shutil.copyfile(run.path / name, out / run.path.name / name)
    atomic_write(out / "report.json", lambda part: part.write_text(json.dumps(content, indent=2) + "\n"))
    for found in content["evaluations"]:
        draw_confusion(np.array(found["confusion"]), list(found["per_class"]), out / _confusion_of(found))
    parts = ["\n".join(_markdown(content)), *(read_text(path, ReportError).strip() for path in appendices)]
    text = "\n\n".join(parts) + "\n"
    atomic_write(out / "report.md", lambda part: part.write_text(text))
    return out / "report.md"


def rewrite_table(readme: Path, reports: Path) -> None:
    """Update a README's table of benchmarks, between its two markers.

    Raises:
        ReportError: if the markers are missing.
    """
    before, begin, rest = read_text(readme, ReportError).partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ReportError(f"{readme} lacks the line {BEGIN} or {END}")
    text = f"{before}{BEGIN}\n{table(reports)}\n{END}{after}"
    atomic_write(readme, lambda part: part.write_text(text))


def table(reports: Path) -> str:
    """Return the table of all benchmarks as Markdown, from the reports under a folder."""
    lines = [
        "| data set | the paper | reproduced here | mean of last ten, theirs and ours | state |",
        "|---|---|---|---|---|",
    ]
    for dataset, title in BENCHMARKS.items():
        file = reports / dataset / "report.json"
        found = json.loads(file.read_text()) if file.is_file() else None
        theirs = _authors(published_run(dataset))
        paper = "-" if theirs is None else f"{theirs['best']:.2f} @ {theirs['best_epoch']}"
        ten = "-" if theirs is None else f"{theirs['mean_of_last_ten']:.2f}"
        if found is None:
            lines.append(f"| {title} | {paper} | - | {ten}, - | awaits the data; recipe and layout tested |")
        else:
            run = max(found["runs"], key=lambda run: run["best"])
            split = f"{run['eval']['n']:,} {run['eval']['split']} images"
            state = f"`{run['recipe']}`, {split}, [report](training/reports/{dataset}/report.md)"
            ours = f"{run['best']:.2f} @ {run['best_epoch']}"
            lines.append(f"| {title} | {paper} | {ours} | {ten}, {run['mean_of_last_ten']:.2f} | {state} |")
    return "\n".join(lines)


def _evaluated(path: Path) -> dict[str, Any]:
    """Return a result of ``manet-train evaluate --json``."""
    try:
        found = json.loads(read_text(path, ReportError))
    except json.JSONDecodeError as error:
        raise ReportError(f"{path} is not JSON: {error}") from error
    missing = sorted(EVALUATION_KEYS - found.keys()) if isinstance(found, dict) else sorted(EVALUATION_KEYS)
    if missing:
        raise ReportError(f"{path} is not a result of manet-train evaluate --json: it lacks {', '.join(missing)}")
    return dict(found)


def _described(folder: RunDir) -> dict[str, Any]:
    rows, recipe, facts = folder.rows(), folder.recipe(), folder.facts(*SHOWN_FACTS)
    if not rows:
        raise ReportError(f"{folder.path} has not finished an epoch yet")
    accuracies = [row["valid_accuracy"] for row in rows]
    best = accuracies.index(max(accuracies))  # the first of equal ones
    kept = {name.partition(".")[0] for name in SHOWN_FACTS} | {"changes", "init", "arithmetic"}
    named = {key: value for key, value in facts.items() if key in kept}
    if isinstance(named.get("init"), str):
        named["init"] = "/".join(Path(named["init"]).parts[-2:])  # the run and its file; no absolute path
    return {
        "name": folder.path.name,
        "dataset": recipe.dataset,
        **named,
        "seed": recipe.seed,
        "epochs": len(rows),
        "epochs_asked": recipe.epochs,
        "best": accuracies[best],
        "best_epoch": int(rows[best]["epoch"]),
        "macro_recall_of_best": rows[best]["valid_macro_recall"],
        "last": accuracies[-1],
        "mean_of_last_ten": round(mean(accuracies[-10:]), 3),
        "hours": round(sum(row["seconds"] for row in rows) / 3600, 2),
    }


def _authors(run: PublishedRun | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "best": run.best,
        "best_epoch": run.best_epoch,
        "last": run.last,
        "mean_of_last_ten": round(run.mean_of_last_ten, 3),
        "epochs": len(run.accuracies),
    }


def _seeds(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and standard deviation over runs that differ only in their seed."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for run in runs:
        others = (change for change in run.get("changes", ()) if not change.startswith("seed"))
        groups[run["recipe"], str(run.get("init")), *others].append(run)
    found = []
    for (recipe, *_), group in groups.items():
        if len({run["seed"] for run in group}) > 1:
            figures = {
                key: {"mean": round(mean(values), 3), "sd": round(stdev(values), 3)}
                for key in ("best", "last", "mean_of_last_ten")
                for values in [[run[key] for run in group]]
            }
            found.append({"recipe": recipe, "seeds": [run["seed"] for run in group], **figures})
    return found


def _markdown(content: Mapping[str, Any]) -> Iterable[str]:
    title = BENCHMARKS.get(content["dataset"], content["dataset"])
    yield f"# {title}"
    yield ""
    yield "Accuracies in percent; epochs count from 0; mean of ten is that of the last ten epochs."
    yield ""
    yield "| run | best | last | mean of ten | macro recall of best | images | seed | hours |"
    yield "|---|---|---|---|---|---|---|---|"
    if (authors := content["authors"]) is not None:
        figures = f"{authors['best']:.2f} @ {authors['best_epoch']} | {authors['last']:.2f}"
        yield f"| the authors' published log | {figures} | {authors['mean_of_last_ten']:.2f} | - | - | - | - |"
    for run in content["runs"]:
        figures = f"{run['best']:.2f} @ {run['best_epoch']} | {run['last']:.2f} | {run['mean_of_last_ten']:.2f}"
        images = f"{run['eval']['n']:,} {run['eval']['split']}"
        recall = f"{run['macro_recall_of_best']:.2f}"
        yield f"| `{run['name']}` | {figures} | {recall} | {images} | {run['seed']} | {run['hours']:.1f} |"
    for group in content["seeds"]:
        cells = (f"{group[key]['mean']:.2f} ± {group[key]['sd']:.2f}" for key in ("best", "last", "mean_of_last_ten"))
        listed = ", ".join(map(str, group["seeds"]))
        yield f"| `{group['recipe']}`, mean and deviation | {' | '.join(cells)} | - | - | {listed} | - |"
    for run in content["runs"]:
        yield from _run(run)
    for found in content["evaluations"]:
        yield from _evaluation(found)


def _run(run: Mapping[str, Any]) -> Iterable[str]:
    machine = run["machine"]
    yield ""
    yield f"## Run `{run['name']}`"
    yield ""
    changes = f" with {', '.join(run['changes'])}" if run.get("changes") else ""
    init = f"initial weights {run['init']}" if run.get("init") else "random initial weights"
    yield f"- recipe `{run['recipe']}`{changes}, {init}; {run['epochs']} of {run['epochs_asked']} epochs"
    yield f"- trained on {run['train']['n']:,} images: {run['train']['protocol']}"
    yield f"- evaluated on {run['eval']['n']:,} {run['eval']['split']} images: {run['eval']['protocol']}"
    processor = f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}"
    on = [name.replace("_", " ") for name, is_set in (run.get("arithmetic") or {}).items() if is_set]
    yield f"- {run['processes']} process(es) on {run['device']}{''.join(f', {name}' for name in on)}; {processor}"
    yield f"- commit `{run['commit']}`, started {run['started']}, {run['hours']} hours of training steps"
    yield ""
    yield f"![losses and accuracies]({run['name']}/curve.png)"


def _confusion_of(found: Mapping[str, Any]) -> str:
    """Return the file name of an evaluation's confusion matrix."""
    return f"confusion_{found['weights']['id']}_{found['split']}.png"


def _evaluation(found: Mapping[str, Any]) -> Iterable[str]:
    yield ""
    yield f"## `{found['weights']['id']}` on {found['dataset']} {found['split']}, {found['n']:,} images"
    yield ""
    yield f"Protocol: {found['protocol']}. Backend: {found['backend']['name']}, {found['backend']['precision']}."
    yield f"Weights: SHA-256 `{found['weights']['sha256']}`. Commit `{found['commit']}`."
    yield ""
    yield f"- accuracy {found['accuracy']:.2f} %, macro recall {found['macro_recall']:.2f} %"
    before, after = found["calibration_error_uncalibrated"], found["calibration_error"]
    yield f"- expected calibration error {after:.2f} % at temperature {found['temperature']} ({before:.2f} % at 1)"
    yield ""
    yield f"![confusion]({_confusion_of(found)})"
    yield ""
    yield "| expression | recall | images |"
    yield "|---|---|---|"
    for name, figures in found["per_class"].items():
        yield f"| {name} | {figures['recall']:.1f} | {figures['n']:,} |"
