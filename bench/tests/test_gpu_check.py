"""The GPU check: its steps run without a GPU, in their limits, and nothing that they start outlives them."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import gpu_check
from bench.gpu.__main__ import run
from bench.gpu.network import NO_NUMBER, share_off
from bench.gpu.service import joined
from bench.gpu.setting import TINY, Row, Setting, Step
from bench.gpu.steps import STEPS
from bench.gpu_check import GRACE, PATIENCE, limited, rows_of, slower
from bench.load import Samples
from bench.server import ROOT
from bench.summary import summary
from testing.processes import runs

NINE_MINUTES = 540


def test_all_steps_fit_nine_minutes_even_if_each_is_late() -> None:
    assert sum(step.seconds + GRACE for step in STEPS.values()) <= NINE_MINUTES


def test_a_processor_gets_more_time() -> None:
    for name, step in slower(STEPS).items():
        assert step == Step(STEPS[name].measure, PATIENCE * STEPS[name].seconds)


def _limited(folder: Path, program: str, seconds: float = 60) -> tuple[str, str]:
    with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
        ended = limited([sys.executable, "-c", program], seconds, out=out.fileno(), log=log.fileno())
    return ended, (folder / "out").read_text() + (folder / "log").read_text()


def test_how_a_step_ended(tmp_path: Path) -> None:
    assert _limited(tmp_path, "print('{}')") == ("done", "{}\n")
    assert _limited(tmp_path, "raise SystemExit('broken')") == ("failed", "broken\n")


@pytest.mark.parametrize("deaf", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_a_step_that_hangs_is_ended_with_what_it_started(
    deaf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "GRACE", 0.2)
    server = "import time; time.sleep(600)"
    start = f"subprocess.Popen([sys.executable, '-c', {server!r}], start_new_session=True).pid"
    program = f"import subprocess, sys, time\n{deaf}\nprint({start}, flush=True)\ntime.sleep(600)"

    ended, output = _limited(tmp_path, program, seconds=2)

    assert ended == "out of time"
    end = time.monotonic() + 10
    while runs(int(output)):
        assert time.monotonic() < end, "what the step started still runs"
        time.sleep(0.05)


def test_a_row_that_was_cut_off_is_left_out() -> None:
    lines = '{"step": "a", "what": 1}\n{"step": "b", "what": 2}\n{"step": "a", "what": 3}\n{"step": "a", "wh'

    assert rows_of("a", lines) == [{"what": 1}, {"what": 3}]


@pytest.mark.parametrize("right", [True, False])
def test_a_step_with_a_wrong_row_is_wrong_and_goes_on(right: bool, tmp_path: Path) -> None:
    def measure(setting: Setting) -> Iterator[Row]:
        yield {"what": "first", "ok": right}
        yield {"what": "second"}

    out = io.StringIO()

    assert run("fake", Step(measure, 1), Setting("cpu", TINY, tmp_path), out) is right
    assert [row["what"] for row in rows_of("fake", out.getvalue())] == ["first", "second"]


def test_how_far_answers_are_off() -> None:
    wanted = np.array([[1, -4], [2, 0]], np.float32)

    assert share_off(wanted, wanted) == 0
    assert share_off(wanted + 1, wanted) == 0.25
    assert share_off(np.full_like(wanted, np.nan), wanted) == NO_NUMBER


def test_generators_that_send_side_by_side_are_one_load() -> None:
    times = np.arange(0, 10, 0.1).tolist()
    part = Samples(times, times, times, [200] * len(times), 10.0, cpu_seconds=0.5)

    found = summary(joined([part, part, part]))

    assert found["answered"] == pytest.approx(3 * summary(part)["answered"], rel=0.01)
    assert (found["statuses"], found["generator_cpu_seconds"]) == ({"200": 300}, 1.5)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_rehearsal_without_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "bench.gpu_check", "--out", str(out), "--device", "cpu", "--tiny"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert {"commit", "machine", "measured"} < set(found)
    assert [(step["step"], step["ended"]) for step in found["steps"]] == [(name, "done") for name in STEPS]
    assert all(step["rows"] for step in found["steps"])
    assert list(tmp_path.iterdir()) == [out]
