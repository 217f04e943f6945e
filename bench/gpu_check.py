"""GPU check: what the service and the training do on a CUDA device, in one call of at most nine minutes.

    python -m bench.gpu_check --out gpu.json
    python -m bench.gpu_check --out gpu.json --device cpu --tiny      a rehearsal, without such a device

Each step of ``bench.gpu.steps`` is a process with a time limit of its own, so that one which hangs costs no other its
time; without a CUDA device a step may take four times as long. Rows are written as soon as they are found, beside the
result with the suffix ``.jsonl``; in the end they are in the result, and that file is gone. A step that fails, is late,
or finds wrong answers is told, and the status is 1.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, get_args

import psutil

from bench.gpu.setting import Ended, Row, Step
from bench.gpu.steps import STEPS
from bench.machine import heading
from bench.server import ROOT
from manet.backends.selection import Device

GRACE = 5.0
"""Seconds that a step which is out of time has to end its own processes."""

PATIENCE = 4.0
"""Times as long as on a CUDA device that a step may take on a processor, which others may use, too."""

_LOG_CHARACTERS = 2000


def check(steps: Mapping[str, Step], flags: Sequence[str], rows: Path) -> Iterator[dict[str, Any]]:
    """Run the steps one after another, and yield what became of each.

    Args:
        steps: what is run, with its limits.
        flags: of ``bench.gpu``.
        rows: new file, a line of JSON for each row.
    """
    for name, step in steps.items():
        command = [sys.executable, "-m", "bench.gpu", name, *flags]
        with tempfile.TemporaryFile("w+") as log:
            began = time.monotonic()
            with rows.open("a") as out:
                ended = limited(command, step.seconds, out=out.fileno(), log=log.fileno())
            took = round(time.monotonic() - began, 1)
            log.seek(0)
            last = {} if ended == "done" else {"log": log.read()[-_LOG_CHARACTERS:]}
        found = rows_of(name, rows.read_text())
        yield {"step": name, "ended": ended, "seconds": took, "limit_seconds": step.seconds, **last, "rows": found}


def slower(steps: Mapping[str, Step]) -> Mapping[str, Step]:
    """Return the steps with the limits that they have on a processor."""
    return {name: replace(step, seconds=PATIENCE * step.seconds) for name, step in steps.items()}


def limited(command: Sequence[str], seconds: float, *, out: int, log: int) -> Ended:
    """Run a command for that long at most, end it and all its processes, and return how it ended.

    Args:
        command: with its arguments.
        seconds: limit; ``GRACE`` comes on top where it is reached.
        out: descriptor of the file for its standard output; likewise ``log`` for its errors.
        log: see ``out``.
    """
    with subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=log, start_new_session=True) as process:
        try:
            return "failed" if process.wait(seconds) else "done"
        except subprocess.TimeoutExpired:
            return "out of time"
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process, and what it started in whatever session: a server that is left would hold the device."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        below = first.children(recursive=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        with contextlib.suppress(psutil.NoSuchProcess):
            below += first.children(recursive=True)
        process.kill()
        for other in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                other.kill()


def rows_of(step: str, lines: str) -> list[Row]:
    """Return the rows of a step; a last line that was cut off when its process was ended is left out."""
    found = []
    for line in lines.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            if row.pop("step") == step:
                found.append(row)
    return found


def gpu() -> str | None:
    """Return name, driver and memory of the CUDA devices by NVIDIA's own program; None where it is missing or fails."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(143)


def main() -> int:
    """Run all steps and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file for the result")
    parser.add_argument("--device", choices=get_args(Device), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a little of everything, to see that it runs")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    rows = asked.out.with_suffix(".jsonl")
    rows.unlink(missing_ok=True)
    head = heading()
    head["machine"]["gpu"] = gpu()
    ends: list[dict[str, Any]] = []
    steps = STEPS if asked.device == "cuda" else slower(STEPS)
    for end in check(steps, ["--device", asked.device, *(["--tiny"] if asked.tiny else [])], rows):
        ends.append(end)
        print(json.dumps(end), flush=True)
    asked.out.write_text(
        json.dumps({**head, "device": asked.device, "tiny": asked.tiny, "steps": ends}, indent=1) + "\n"
    )
    rows.unlink()
    failed = [end["step"] for end in ends if end["ended"] != "done"]
    print("not done:", ", ".join(failed) or "nothing")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
