"""The report's tables of levers, one by one, are those of the result files."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEASURED = ("valid_accuracy", "valid_macro_recall")


@pytest.mark.parametrize("page", ["levers.md", "report.md"])
@pytest.mark.parametrize("result", ["levers", "levers_full_width"])
def test_every_lever_has_its_row(page: str, result: str) -> None:
    lines = (ROOT / "training/reports/ferplus" / page).read_text().splitlines()
    rows: list[dict[str, Any]] = json.loads((ROOT / f"bench/results/{result}.json").read_text())["rows"]
    base = rows[0]

    for row in rows:
        [line] = [line for line in lines if line.startswith(f"| {row['lever']} | ") and line.count("|") == 6]
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        for name, two, difference in zip(MEASURED, cells[::2], cells[1::2], strict=True):
            assert two == ", ".join(f"{value:.2f}" for value in row[name]["last"])
            gained = row[name]["mean_of_last"] - base[name]["mean_of_last"]
            assert difference == ("" if row is base else f"{gained:+.2f}")
