"""The table of promises: whatever holds one is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs/guarantees.md").read_text()
HELD = re.findall(r"`(tests/[^:`]+)::(\w+)`", TABLE)
TARGETS = re.findall(r"`make (\w+)`", TABLE)


@pytest.mark.parametrize(("file", "test"), HELD, ids=[test for _, test in HELD])
def test_the_test_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_promise_is_held_by_something() -> None:
    rows = [row for row in TABLE.splitlines() if row.startswith("| ") and not row.startswith(("| promise", "| ---"))]
    assert len(rows) > 40
    bare = [row for row in rows if not re.search(r"`tests/|`make ", row.split(" | ")[1])]
    assert all(row.split(" | ")[1] == "to come" for row in bare), bare


def test_every_file_that_security_md_names_exists() -> None:
    named = re.findall(r"`(tests/[^`]+)`", (ROOT / "SECURITY.md").read_text())
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]
