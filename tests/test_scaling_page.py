"""docs/scaling.md has the figures of its result files."""

import json
from typing import Any

from testing.documents import ROOT, Document

PAGE = Document("docs/scaling.md")


def _result(name: str) -> Any:
    return json.loads((ROOT / f"bench/results/{name}.json").read_text())


def test_what_was_measured() -> None:
    found = _result("front_ends")
    measured, bookkeeping = found["measured"], found["bookkeeping"]
    figures = (
        f"{measured['front_ends_2']['us_front_end']:,.0f} us",
        f"{measured['single']['us_all']:,.0f} us",
        str(found["cpu_over_single"]["front_ends_2"]),
        str(found["two_over_one"]),
        f"{found['admission_us']['of_15_front_ends']} us",
        f"{bookkeeping['engine_us_a_face']} us a face",
        f"{bookkeeping['faces_a_second']:,} a second",
        f"{_result('crops')['servers']['ours']['answered']:.0f} a second",
        f"{_result('photographs')['servers']['ours']['answered']:.0f} a second",
    )

    assert [figure for figure in figures if f"| {figure} |" not in PAGE.text] == []
    assert f"{bookkeeping['faces_a_second']:,} crops a second" in PAGE.text


def test_what_was_computed() -> None:
    for name, kind in _result("scaling")["kinds"].items():
        hours = f"{kind['machine_hours_a_million']:.2f} | {kind['core_hours_a_million']:.2f}"
        assert f"| {name} | {hours} |" in PAGE.text
        for row in kind["rows"]:
            cells = " | ".join(f"{value:,}" for value in row.values())
            assert f"| {name} | {cells} |" in PAGE.text


def test_it_was_computed_from_the_files_that_are_there() -> None:
    commits = {name: _result(name)["commit"] for name in ("crops", "photographs", "front_ends")}

    assert _result("scaling")["computed_from"] == commits
