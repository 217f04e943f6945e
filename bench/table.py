"""Table: each metric with its target and what was measured, as Markdown."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import ge, le
from typing import Any

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Goal:
    """A metric and its target.

    Attributes:
        metric: its name in the table.
        row: the row of the benchmark that measures it.
        value: returns it from the row's JSON; None if there is none.
        target: the least or the largest value that meets the goal, by ``meets``.
        meets: compares a value with the target.
        unit: written behind both.
    """

    metric: str
    row: str
    value: Callable[[Any], float | None]
    target: float
    meets: Callable[[float, float], bool] = ge
    unit: str = ""


GOALS = (
    Goal(
        "224 px: saturated throughput over the bare batch-32 loop",
        "served_over_bare_224",
        lambda r: r["served_over_bare"],
        0.9,
    ),
    Goal(
        "CPU time per request in the threads of HTTP and decoding",
        "cpu_outside_network",
        lambda r: r["cpu_ms_a_request"]["outside_by_threads"],
        1.2,
        le,
        " ms",
    ),
    Goal(
        "CPU time per request of the whole process, less that of the bare loop",
        "cpu_outside_network",
        lambda r: r["cpu_ms_a_request"]["outside_the_network"],
        1.2,
        le,
        " ms",
    ),
    Goal(
        "saturated throughput over plain FastAPI, PyTorch at 224 px",
        "crops",
        lambda r: r["ours_over"]["plain_fastapi, torch"],
        20,
        unit=" x",
    ),
    Goal(
        "saturated throughput over LitServe, PyTorch at 224 px",
        "crops",
        lambda r: r["ours_over"]["litserve, torch"],
        10,
        unit=" x",
    ),
    Goal(
        "saturated throughput over LitServe, our backend and input size",
        "crops",
        lambda r: r["ours_over"]["litserve, ours"],
        1.1,
        unit=" x",
    ),
    Goal(
        "photographs of four faces: throughput over one-by-one processing",
        "photographs",
        lambda r: r["ours_over"]["one by one, torch at 224"],
        3,
        unit=" x",
    ),
    Goal(
        "one client: median latency beyond that of the bare call",
        "one_client",
        lambda r: r["over_bare_ms"],
        5,
        le,
        " ms",
    ),
    Goal("goodput at twice the capacity", "overload", lambda r: r["goodput_over_capacity"], 0.9),
    Goal("rejections answered within 50 ms at that load", "overload", lambda r: r["refused_within_50_ms"], 0.99),
    Goal(
        "p99 latency of accepted requests at that load, deadline 1 s",
        "overload",
        lambda r: r["accepted_p99_ms"],
        1000,
        le,
        " ms",
    ),
    Goal(
        "crops per second and core used, with a backend that costs nothing",
        "null_backend",
        lambda r: r["crops_a_second_for_each_core"],
        800,
    ),
    Goal("resident memory under load", "memory", lambda r: r["largest_mb"], 700, le, " MB"),
    Goal("memory growth after the first minute", "memory", lambda r: r["growth_after_the_first_minute"], 0.03, le),
    Goal("start to ready", "start", lambda r: r["median_seconds"], 2, le, " s"),
    Goal("resident memory when ready", "start", lambda r: r["resident_mb"], 450, le, " MB"),
)


def table(results: Results) -> Iterator[str]:
    """Yield the lines of the table of all goals whose row was measured.

    Args:
        results: each row's JSON, by name.
    """
    yield "| metric | target | measured | met | machine |"
    yield "|---|---|---|---|---|"
    for goal in GOALS:
        row = results.get(goal.row)
        if row is None:
            continue
        value = goal.value(row)
        met = "-" if value is None else "yes" if goal.meets(value, goal.target) else "no"
        shown = "-" if value is None else f"{value:g}{goal.unit}"
        quiet = "quiet" if row["machine_before"]["quiet"] else "not quiet"
        yield f"| {goal.metric} | {goal.target:g}{goal.unit} | {shown} | {met} | {quiet} |"


def servers(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of all servers of one row, ``crops`` or ``photographs``."""
    yield "| server | requests/s | ours is | median ms | p99 ms | CPU ms per request | resident MB |"
    yield "|---|---|---|---|---|---|---|"
    for name, found in result["servers"].items():
        times = result["ours_over"].get(name)
        latency = found["latency_ms"] or {"p50": float("nan"), "p99": float("nan")}
        cost = 1e3 * found["server_cpu_seconds"] / max(1, found["requests"])
        yield (
            f"| {name} | {found['answered']:g} | {'-' if times is None else f'{times:.1f} x'} | {latency['p50']:.0f} "
            f"| {latency['p99']:.0f} | {cost:.1f} | {found['server_resident_mb']:.0f} |"
        )
