"""Run: measures rows of the benchmark and writes each as JSON; ``make bench`` measures them all.

python -m bench.run                            every row, then the figure and the table
python -m bench.run null_backend one_client    only these
python -m bench.run --seconds 5                shorter loads
"""

import argparse
import json
import signal
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench.figure import draw
from bench.machine import heading, quietness
from bench.rows import ROWS
from bench.server import ROOT
from bench.table import servers, table
from bench.workbench import Bench

RESULTS = ROOT / "bench" / "results"


def measure(name: str, bench: Bench, out: Path) -> None:
    """Measure a row and write its JSON."""
    before = quietness()
    if not before["quiet"]:
        print(f"{name}: the machine is not quiet, {100 * before['busy']:.0f} % of it is busy", flush=True)
    row = ROWS[name](bench)
    what = (ROWS[name].__doc__ or "").strip()
    result = {"row": name, "what": what, **heading(), "seconds_each": bench.seconds, "machine_before": before, **row}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(_dumped(result) + "\n")
    print(json.dumps({"row": name, **_figures(row)}), flush=True)


def report(out: Path) -> None:
    """Write the figure and the tables of whatever was measured so far."""
    results = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json") if path.stem in ROWS}
    lines = list(table(results))
    for name in ("crops", "photographs"):
        if name in results:
            lines += ["", f"`{name}`", "", *servers(results[name])]
    (out / "benchmark.md").write_text("\n".join(lines) + "\n")
    if "curves" in results:
        draw(results["curves"], out / "benchmark.png")


def _dumped(result: object) -> str:
    """Return JSON with a line for each fact, but not for each sample."""
    encoder = json.JSONEncoder(separators=(",", ":"))

    def lines(value: object, indent: str) -> str:
        if isinstance(value, dict) and not {"unit", "p50"} & set(value):
            inner = ",\n".join(f"{indent}  {json.dumps(key)}: {lines(v, indent + '  ')}" for key, v in value.items())
            return f"{{\n{inner}\n{indent}}}" if inner else "{}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            inner = ",\n".join(f"{indent}  {lines(v, indent + '  ')}" for v in value)
            return f"[\n{inner}\n{indent}]"
        return encoder.encode(value)

    return lines(result, "")


def _figures(row: dict[str, object]) -> dict[str, object]:
    """Return a row's own figures: what is a plain number at its top."""
    return {name: value for name, value in row.items() if isinstance(value, int | float)}


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(1)  # unwinds through every server that runs


def main() -> None:
    """Measure what is requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seconds", type=float, default=15, help="of each load")
    parser.add_argument("--soak-seconds", type=float, default=600, help="of the load under which memory is watched")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for results")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="folder for logs and networks")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    asked.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(asked.work.absolute(), asked.seconds, asked.soak_seconds)
    for name in asked.rows or ROWS:
        measure(name, bench, asked.out)
    report(asked.out)


if __name__ == "__main__":
    main()
