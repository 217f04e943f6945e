"""docs/guarantees.md and SECURITY.md: what they name as the proof of a promise exists and is run by ``make``.

Promises about figures are held to the result files, too.
"""

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from testing.documents import ROOT, Document

PAGE = Document("docs/guarantees.md")
PROOF = re.compile(r"`(?:((?:bench/)?tests/[\w/]+\.py)::(\w+)|make (\w+))`")


@cache
def _tests(path: Path) -> frozenset[str]:
    """Return the names of the test functions of a file, as pytest collects them."""
    functions = (
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def _missing(proof: str) -> bool:
    found = PROOF.fullmatch(proof)
    if found is None:
        return True
    file, test, target = found.groups()
    if target is not None:
        return not re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return not (ROOT / file).is_file() or test not in _tests(ROOT / file)


def _result(name: str) -> Any:
    return json.loads((ROOT / f"bench/results/{name}.json").read_text())


def _rows() -> list[list[str]]:
    """Return the cells of each promise: in words, its proofs, its last figure."""
    lines = [line for line in PAGE.text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in rows if row[0] not in {"promise", "---"}]


def test_each_promise_has_proofs_that_exist() -> None:
    rows = _rows()

    assert rows
    assert [row for row in rows if len(row) != len(("promise", "held by", "last figure"))] == []
    assert {row[0]: proof for row in rows for proof in row[1].split(", ") if _missing(proof)} == {}


def test_a_proof_that_is_gone_is_noticed() -> None:
    name = f"tests/test_guarantees.py::{test_a_proof_that_is_gone_is_noticed.__name__}"

    assert not _missing(f"`{name}`")
    assert all(
        map(
            _missing,
            (
                "",
                "by hand",
                f"`{name}_no_more`",
                "`tests/gone.py::test_a`",
                "`bench/tests/gone.py::test_a`",
                "`make nothing`",
            ),
        )
    )


def test_the_result_files_that_it_names_exist() -> None:
    named = re.findall(r"`(bench/results/[^`]+)`", PAGE.text)

    assert named
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_file_that_security_md_names_exists() -> None:
    named = re.findall(r"`(tests/[^`]+)`", Document("SECURITY.md").text)

    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_float16_has_the_accuracy_of_float32() -> None:
    found = _result("float16")
    exact, short = (found["accuracy"][name] for name in ("float32", "float16"))

    assert short == pytest.approx(exact, abs=0.1)
    assert f"{exact} % and {short} %, {found['other_answers']} other answers of {found['n']:,} |" in PAGE.text


def test_less_ground_and_reduced_images_leave_the_answers() -> None:
    before, now = (run["rows"] for run in _result("canvas")["runs"])
    canvas = [(before[name], now[name]) for name in ("four", "alone_640")]
    reduced = now["four, large, whole"], now["four, large, reduced"]
    shares = [(100 * one["right"], 100 * other["right"]) for one, other in (*canvas, reduced)]

    assert [(one, other) for one, other in shares if abs(one - other) > 0.2] == []
    first, second, third = (f"{one:.2f} to {other:.2f} %" for one, other in shares)
    assert f"canvas {first} and {second}, reduced {third} |" in PAGE.text
