"""One step of the GPU check, in this process; each row is a line of JSON as soon as it is found.

python -m bench.gpu facts
python -m bench.gpu correct --device cpu --tiny
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO, get_args

import torch

from bench.gpu.setting import FULL, TINY, Setting, Step
from bench.gpu.steps import STEPS
from manet.backends.selection import Device


def run(name: str, step: Step, setting: Setting, out: TextIO) -> bool:
    """Run a step, write its rows, and return whether all of them are as they should be."""
    right = True
    for row in step.measure(setting):
        out.write(json.dumps({"step": name, **row}) + "\n")
        out.flush()
        right = right and row.get("ok", True)
    return right


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(143)  # unwinds through every server that runs


def main() -> int:
    """Run one step; the status is 1 where a row is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--device", choices=get_args(Device), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a little of everything, to see that it runs")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    with os.fdopen(os.dup(1), "w") as out, tempfile.TemporaryDirectory() as folder:
        os.dup2(2, 1)  # only rows go to the standard output, whatever libraries print
        scale = TINY if asked.tiny else FULL
        if scale.threads is not None:
            torch.set_num_threads(scale.threads)
        return int(not run(asked.step, STEPS[asked.step], Setting(asked.device, scale, Path(folder)), out))


if __name__ == "__main__":
    sys.exit(main())
