"""The report's table of levers on a narrow network is that of the result file."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEASURED = ("valid_accuracy", "valid_macro_recall")
ROWS: list[dict[str, Any]] = json.loads((ROOT / "bench/results/levers.json").read_text())["rows"]


@pytest.mark.parametrize("page", ["levers.md", "report.md"])
def test_every_lever_has_its_row(page: str) -> None:
    lines = (ROOT / "training/reports/ferplus" / page).read_text().splitlines()
    base = ROWS[0]

    for row in ROWS:
        [line] = [line for line in lines if line.startswith(f"| {row['lever']} | ") and line.count("|") == 6]
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        for name, two, difference in zip(MEASURED, cells[::2], cells[1::2], strict=True):
            assert two == ", ".join(f"{value:.2f}" for value in row[name]["last"])
            gained = row[name]["mean_of_last"] - base[name]["mean_of_last"]
            assert difference == ("" if row is base else f"{gained:+.2f}")
