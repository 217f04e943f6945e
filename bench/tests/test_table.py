"""The table says of each metric whether its target was met."""

from typing import Any

from bench.table import servers, table

QUIET = {"machine_before": {"quiet": True}}


def test_a_target_that_was_met_or_missed_or_not_measured() -> None:
    results: dict[str, dict[str, Any]] = {
        "one_client": {**QUIET, "over_bare_ms": 5.1},
        "null_backend": {"machine_before": {"quiet": False}, "crops_a_second_for_each_core": 800},
        "overload": {
            **QUIET,
            "goodput_over_capacity": 0.95,
            "refused_within_50_ms": None,
            "accepted_p99_ms": 900,
        },
    }
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in list(table(results))[2:]}

    def cells(words: str) -> list[str]:
        [found] = [cells for name, cells in rows.items() if words in name]
        return [cell.strip() for cell in found]

    assert len(rows) == 5
    assert cells("one client") == ["5 ms", "5.1 ms", "no", "quiet"]
    assert cells("costs nothing") == ["800", "800", "yes", "not quiet"]
    assert cells("rejections") == ["0.99", "-", "-", "quiet"]
    assert cells("p99") == ["1000 ms", "900 ms", "yes", "quiet"]


def test_servers_that_answered_nothing_are_shown_too() -> None:
    found = {
        "answered": 0.0,
        "latency_ms": None,
        "server_cpu_seconds": 2.0,
        "requests": 0,
        "server_resident_mb": 900.0,
    }
    [_, _, line] = servers({"servers": {"slow": found}, "ours_over": {"slow": None}})
    assert line == "| slow | 0 | - | nan | nan | 2000.0 | 900 |"
