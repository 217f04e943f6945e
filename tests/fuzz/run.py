"""A fuzz run: every target side by side for some minutes; what it did and what it found goes to a JSON file."""

import argparse
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.fuzz.targets import TARGETS
from training.provenance import commit, machine

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_MOST = 8192
"""Bytes of an input, at most."""


def fuzz(target: str, folder: Path, *, minutes: float, slowest: int) -> dict[str, Any]:
    """Return what one run did.

    Args:
        target: its name.
        folder: where the corpus grows and findings are kept.
        minutes: for how long.
        slowest: seconds after which one input is a finding.
    """
    corpus = folder / target
    corpus.mkdir(parents=True, exist_ok=True)
    limits = [
        f"-max_total_time={minutes * 60:.0f}",
        f"-timeout={slowest}",
        f"-report_slow_units={slowest}",
        "-rss_limit_mb=2048",
        f"-max_len={_MOST}",
    ]
    files = [f"-dict={HERE / target}.dict", f"-artifact_prefix={folder / target}-"]
    command = [sys.executable, "-m", "tests.fuzz", target, *limits, *files, "-print_final_stats=1"]
    command += [str(corpus), str(HERE / "seeds" / target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    (folder / f"{target}.log").write_text(done.stderr)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", done.stderr)
    stats = dict(re.findall(r"^stat::(\w+):\s+(\d+)$", done.stderr, re.MULTILINE))
    return {
        "executions": int(stats.get("number_of_executed_units", 0)),
        "slowest_seconds": int(stats.get("slowest_unit_time_sec", 0)),
        "branches_covered_first": int(covered[0][0]) if covered else 0,
        "branches_covered": int(covered[-1][0]) if covered else 0,
        "features": int(covered[-1][1]) if covered else 0,
        "corpus": int(covered[-1][2]) if covered else 0,
        "findings": sorted(path.name for path in folder.glob(f"{target}-*")),
        "status": done.returncode,
    }


def main() -> None:
    """Fuzz, write the result, and fail if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--slowest", type=int, default=60, help="seconds after which one input is a finding")
    parser.add_argument("--folder", type=Path, required=True, help="for the corpus and the findings")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the result")
    asked = parser.parse_args()
    result: dict[str, Any] = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "minutes_each": asked.minutes,
    }
    with ThreadPoolExecutor(len(TARGETS)) as runs:
        going = {
            target: runs.submit(fuzz, target, asked.folder, minutes=asked.minutes, slowest=asked.slowest)
            for target in TARGETS
        }
        targets = {target: run.result() for target, run in going.items()}
    asked.out.write_text(json.dumps({**result, "targets": targets}, indent=2) + "\n")
    for target, row in targets.items():
        sys.stdout.write(f"{target}: {row['executions']:,} executions, {row['findings'] or 'nothing'} found\n")
    if any(row["findings"] or row["status"] for row in targets.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
