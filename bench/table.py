"""Table: the figures that were to be reached beside those that were, as Markdown."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import ge, le
from typing import Any

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach.

    Attributes:
        what: in words.
        row: the row that measures it.
        value: finds it there.
        reach: at least or at most this much, by ``holds``.
        holds: compares the value with it.
        unit: written behind both.
    """

    what: str
    row: str
    value: Callable[[Any], float | None]
    reach: float
    holds: Callable[[float, float], bool] = ge
    unit: str = ""


GOALS = (
    Goal(
        "224: saturated throughput over the bare batch-32 loop",
        "served_over_bare_224",
        lambda r: r["served_over_bare"],
        0.9,
    ),
    Goal(
        "CPU time a request outside the network, of the threads that do that",
        "cpu_outside_network",
        lambda r: r["cpu_ms_a_request"]["outside_by_threads"],
        1.2,
        le,
        " ms",
    ),
    Goal(
        "CPU time a request, of the whole process, beyond that of the bare loop",
        "cpu_outside_network",
        lambda r: r["cpu_ms_a_request"]["outside_the_network"],
        1.2,
        le,
        " ms",
    ),
    Goal(
        "saturated, over plain FastAPI, PyTorch at 224",
        "crops",
        lambda r: r["ours_over"]["plain_fastapi, torch"],
        20,
        unit=" x",
    ),
    Goal(
        "saturated, over LitServe, PyTorch at 224", "crops", lambda r: r["ours_over"]["litserve, torch"], 10, unit=" x"
    ),
    Goal(
        "saturated, over LitServe, our engine and size",
        "crops",
        lambda r: r["ours_over"]["litserve, ours"],
        1.1,
        unit=" x",
    ),
    Goal(
        "photographs of four faces, over one-by-one work",
        "photographs",
        lambda r: r["ours_over"]["one by one, torch at 224"],
        3,
        unit=" x",
    ),
    Goal("one client's median latency over the bare call", "one_client", lambda r: r["over_bare_ms"], 5, le, " ms"),
    Goal("goodput at twice the capacity", "overload", lambda r: r["goodput_over_capacity"], 0.9),
    Goal("refusals there within 50 ms", "overload", lambda r: r["refused_within_50_ms"], 0.99),
    Goal("p99 there of the accepted, deadline 1 s", "overload", lambda r: r["accepted_p99_ms"], 1000, le, " ms"),
    Goal(
        "a backend that costs nothing: crops a second for each core used",
        "null_backend",
        lambda r: r["crops_a_second_for_each_core"],
        800,
    ),
    Goal("resident memory under load", "memory", lambda r: r["largest_mb"], 700, le, " MB"),
    Goal("its growth after the first minute", "memory", lambda r: r["growth_after_the_first_minute"], 0.03, le),
    Goal("start to ready, cache warm", "start", lambda r: r["median_seconds"], 3, le, " s"),
)


def table(results: Results) -> Iterator[str]:
    """Yield the lines of the table of all goals whose row was measured.

    Args:
        results: each row's JSON, by name.
    """
    yield "| what | reach | measured | reached | machine |"
    yield "|---|---|---|---|---|"
    for goal in GOALS:
        row = results.get(goal.row)
        if row is None:
            continue
        value = goal.value(row)
        reached = "-" if value is None else "yes" if goal.holds(value, goal.reach) else "no"
        shown = "-" if value is None else f"{value:g}{goal.unit}"
        quiet = "quiet" if row["machine_before"]["quiet"] else "not quiet"
        yield f"| {goal.what} | {goal.reach:g}{goal.unit} | {shown} | {reached} | {quiet} |"


def servers(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of all servers of one row, ``crops`` or ``photographs``."""
    yield "| server | requests a second | ours is | median ms | p99 ms | server CPU ms a request | resident MB |"
    yield "|---|---|---|---|---|---|---|"
    for name, found in result["servers"].items():
        times = result["ours_over"].get(name)
        latency = found["latency_ms"] or {"p50": float("nan"), "p99": float("nan")}
        cost = 1e3 * found["server_cpu_seconds"] / max(1, found["requests"])
        yield (
            f"| {name} | {found['answered']:g} | {'-' if times is None else f'{times:.1f} x'} | {latency['p50']:.0f} "
            f"| {latency['p99']:.0f} | {cost:.1f} | {found['server_resident_mb']:.0f} |"
        )
