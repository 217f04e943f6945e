"""Levers: what each choice of the recipe `ferplus` gives by itself, with several seeds.

    python bench/studies/levers.py --data DIR --duplicates CSV --runs runs/levers --out bench/results/levers.json
    python bench/studies/levers.py --stem stem.safetensors ... --out bench/results/levers_full_width.json

Each lever is one change of the same base, ``levers.toml``. All runs of a table have the same length and are evaluated
on FER+ Valid (majority protocol). The network has a sixteenth of the shipped one's operations and begins with random
weights, so that the table fits a processor: it says which way a lever moves, not how far the shipped network would go.
With ``--stem`` it is the full network in bf16, which begins with random weights or with the face-age stem. The seeds
run side by side with a thread each: two cores train 1.6 times the images of one run with two threads. A call continues
where the one before it stopped.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.machine import heading
from training.run_dir import RunDir

BASE = Path(__file__).with_suffix(".toml")
SEEDS = (1, 2)
TEACHER = "half of each target from the two base runs"
LEVERS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "base": (),
        "balanced draws": ("class_balance=0.5",),
        "soft targets of all rows": ("labels='all_votes'",),
        "logit adjustment": ("logit_adjustment=0.5",),
        "changes of the kinds that users' images have": (
            *("augment.low_resolution=0.1", "augment.blur=0.1", "augment.gamma=0.4", "augment.contrast=0.4"),
            *("augment.brightness=0.3", "augment.jpeg=0.1", "augment.cover=0.05"),
        ),
        "random erasing": ("augment.random_erasing=0.25",),
        "mixup": ("augment.mixup=0.1",),
        "cutmix": ("augment.cutmix=0.3",),
        TEACHER: ("teacher_share=0.5",),
        "last two of six epochs at 64 px": ("input_size=64", "epoch_sizes=[48, 48, 48, 48, 64, 64]"),
    }
)
"""Changes of the base by what they are called."""

STEM = "face-age stem"
FULL_WIDTH = (
    *("width=64", "precision='bf16'", "epochs=3", "epoch_sizes=[48, 48, 48]"),
    "schedule.cycles=[{epochs = 3, max_lr = 0.1, warmup = 0.2}]",
)
FULL_WIDTH_LEVERS: Mapping[str, Sequence[str]] = MappingProxyType({"random weights": FULL_WIDTH, STEM: FULL_WIDTH})
"""What ``bench/studies/face_age_stem.py`` writes fits a network of full width only."""

MEASURED = ("valid_accuracy", "valid_macro_recall")


def trained(
    levers: Mapping[str, Sequence[str]], lever: str, seed: int, arguments: argparse.Namespace
) -> list[dict[str, float]]:
    """Return the rows of a run's log, one for each epoch; a run that was stopped is continued."""

    def run(lever: str, seed: int) -> RunDir:
        return RunDir(arguments.runs / f"{list(levers).index(lever)}-{seed}")

    folder = run(lever, seed)
    command = [sys.executable, "-m", "training", "fit", "--threads", "1"]
    if folder.checkpoint.is_file():
        command += ["--resume", str(folder.path)]
    else:
        given = ["--data", arguments.data, "--duplicates", arguments.duplicates, "--out", str(folder.path)]
        command += [str(BASE), *given, *_each("--set", *levers[lever], f"seed={seed}")]
        if lever == TEACHER:
            command += _each("--teacher", *(str(run("base", other).weights("best")) for other in SEEDS))
        if lever == STEM:
            command += ["--init", str(arguments.stem)]
    subprocess.run(command, check=True)
    return folder.rows()


def _each(option: str, *values: str) -> list[str]:
    return [word for value in values for word in (option, value)]


def main() -> None:
    """Train what is missing, and write the result after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--duplicates"):
        parser.add_argument(name, required=True)
    for name in ("--runs", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--stem", type=Path, help="backbone of bench/studies/face_age_stem.py: the full-width table")
    arguments = parser.parse_args()
    levers = LEVERS if arguments.stem is None else FULL_WIDTH_LEVERS
    rows: list[dict[str, Any]] = []
    for lever in levers:
        with ThreadPoolExecutor(len(SEEDS)) as side_by_side:
            logs = list(side_by_side.map(lambda seed, lever=lever: trained(levers, lever, seed, arguments), SEEDS))
        row: dict[str, Any] = {"lever": lever, "changes": levers[lever]}
        for name in MEASURED:
            best = [max(log, key=lambda epoch: epoch["valid_accuracy"])[name] for log in logs]
            row[name] = {"best": best, "last": [log[-1][name] for log in logs]}
            row[name]["mean_of_last"] = round(statistics.mean(row[name]["last"]), 2)
        rows.append(row)
        print(row, flush=True)
        result = {**heading(), "recipe": BASE.read_text(), "seeds": SEEDS, "valid_images": 3199, "rows": rows}
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
