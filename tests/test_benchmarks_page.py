"""docs/benchmarks.md and the README's figures of speed are those of the result files."""

import json
from typing import Any

import pytest

from manet.weights.registry import get
from testing.documents import README, ROOT, Document

PAGE = Document("docs/benchmarks.md")
RESULTS = ROOT / "bench/results"


def _result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_the_tables_are_those_that_the_benchmark_wrote() -> None:
    tables = (RESULTS / "benchmark.md").read_text().split("\n\n")

    assert [table.strip() for table in tables if table.startswith("|") and table.strip() not in PAGE.text] == []


def test_the_rows_were_measured_at_the_commit_and_on_the_machine_that_it_names() -> None:
    rows = [found for found in (_result(path.stem) for path in RESULTS.glob("*.json")) if "row" in found]

    assert {found["commit"][:7] for found in rows} == {"0efaf09"}
    assert "commit `0efaf09`, on 2 cores of an AMD EPYC" in PAGE.text
    assert {(found["machine"]["cores"], found["machine"]["processor"]) for found in rows} == {(2, "AMD EPYC")}


@pytest.mark.parametrize("name", ["engines", "stream", "soak", "soak_10_minutes", "explain", "front_ends"])
def test_the_commit_beside_a_result_file_is_that_in_the_file(name: str) -> None:
    assert f"`{_result(name)['commit'][:7]}`" in PAGE.text


def test_the_backends_by_themselves() -> None:
    rows = _result("engines")["rows"]
    one, full = ({row["way"]: row for row in rows if row["batch"] == batch} for batch in (1, 32))

    for way, row in full.items():
        assert f"| {way} | {one[way]['images_per_second']} | {row['images_per_second']} |" in PAGE.text


@pytest.mark.parametrize("name", ["soak", "soak_10_minutes"])
def test_the_long_load(name: str) -> None:
    found = _result(name)
    failed, memory = found["seen_by_clients"].get("500", 0), found["memory"]["growth_percent"]
    [row] = [line for line in PAGE.text.splitlines() if f"/{name}.json)" in line]
    minutes, requests, errors, lost, growth = (cell.strip() for cell in row.split("|")[1:6])

    assert float(minutes) == found["minutes"]
    assert (requests, errors, lost) == (f"{found['sent_total']:,}", str(failed), str(found["lost"]))
    assert float(growth.removesuffix(" %")) == pytest.approx(memory, abs=0.05)


def test_front_ends() -> None:
    found = _result("front_ends")
    for way, row in found["measured"].items():
        engine = row.get("us_engine", 0)
        assert f"| {row['us_all']:,.0f} | {engine:,.0f} | {found['cpu_over_single'][way]} |" in PAGE.text
    for figure in (found["two_over_one"], *found["admission_us"].values(), found["bookkeeping"]["engine_us_a_face"]):
        assert str(figure) in PAGE.text


def test_photographs() -> None:
    before, now = (run["rows"] for run in _result("canvas")["runs"])
    pairs = [(before[name], now[name]) for name in ("four", "alone_640")]
    pairs.append((now["four, large, whole"], now["four, large, reduced"]))

    for one, other in pairs:
        cells = (one["found"], other["found"], one["right"], other["right"])
        assert " | ".join(f"{100 * share:.2f}" for share in cells) in PAGE.text


def test_live_video() -> None:
    for row in _result("stream")["rows"]:
        age = row["service_age_ms"]["p50"]
        assert f"| {row['clients']} | {row['answered_a_second']} | {age:.0f} |" in PAGE.text


def test_explanations() -> None:
    for row in _result("explain")["rows"]:
        assert f"| {row['map']} | {row['drop_pointed']:.3f} | {row['drop_random']:.3f} |" in PAGE.text


@pytest.mark.parametrize("side", [80, 224])
def test_a_prototype_on_a_gpu(side: int) -> None:
    ways = {
        step["way"]: step["sizes"]["256"]["per_second"]
        for step in _result("gpu")["steps"]
        if step["step"] == "engines" and step.get("side") == side
    }

    assert f"| {side} | {ways['graphs float16']:,.0f} | {ways['product float16']:,.0f} |" in PAGE.text


@pytest.mark.parametrize("name", ["valid", "valid_bf16", "valid_int8"])
def test_the_accuracy_of_a_number_format(name: str) -> None:
    result = json.loads((ROOT / f"training/reports/ferplus/{name}.json").read_text())
    [row] = [line for line in PAGE.text.splitlines() if f"/{name}.json)" in line]

    assert f"| {result['accuracy']:.2f} |" in row
    assert result["weights"]["sha256"] == get("ferplus").sha256
    assert "commit" not in row or f"`{result['commit'][:7]}`" in row


def test_the_accuracy_of_float16() -> None:
    result = _result("float16")
    in_float32 = json.loads((ROOT / "training/reports/ferplus/valid.json").read_text())
    [row] = [line for line in PAGE.text.splitlines() if "/float16.json)" in line]

    assert f"| {result['accuracy']['float16']:.2f} |" in row
    assert f"`{result['commit'][:7]}`" in row
    assert f"{result['other_answers']} of its {result['n']:,} answers" in PAGE.text
    assert result["weights"]["sha256"] == get("ferplus").sha256
    assert (result["n"], result["accuracy"]["float32"]) == (in_float32["n"], in_float32["accuracy"])


def test_the_speed_in_the_readme() -> None:
    crops, photographs = (_result(name)["servers"]["ours"] for name in ("crops", "photographs"))
    overload = _result("overload")
    found = README.text.partition("## Speed")[2].partition("## ")[0]

    assert f"{crops['answered']:.0f} face crops per second, with {crops['clients']} clients" in found
    assert f"p99 latency of {crops['latency_ms']['p99']:.0f} ms" in found
    assert f"{photographs['answered']:.0f} photographs per second" in found
    assert f"answers {overload['goodput_over_capacity']} of its capacity" in found
    assert f"deadline of {overload['deadline_seconds']:.0f} s" in found


def test_the_docker_image_in_the_readme() -> None:
    image = _result("image")
    slowest = round(max(image["seconds_to_ready"]))

    assert f"image of {image['megabytes']['all']:,.0f} MB" in README.text
    assert f"ready {slowest} s after its start" in " ".join(README.text.split())
    assert f"takes {image['resident_mb']:.0f} MB of memory" in README.text
