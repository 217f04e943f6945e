"""Figure: throughput and latency against offered load, ours and the others', from the row ``curves``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Colours that most colour-blind people tell apart (Okabe and Ito, 2008); a marker and a dash say the same again.
_SERVERS = {
    "ours": ("#D55E00", "o"),
    "plain_fastapi": ("#0072B2", "s"),
    "litserve": ("#009E73", "^"),
    "mosec": ("#CC79A7", "D"),
}
_OTHER = ("#56B4E9", "v")
_LABELS = {"plain_fastapi": "plain FastAPI", "tuned_fastapi": "tuned FastAPI", "litserve": "LitServe", "mosec": "mosec"}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the figure as a PNG.

    Args:
        result: the row ``curves``.
        path: of the PNG.
    """
    mpl.use("Agg")
    figure, (throughput, latency) = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    most = 0.0
    for name, found in result["servers"].items():
        label, style = _label(name), _style(name)
        points = found["points"]
        offered = [point["offered"] for point in points]
        most = max(most, *offered)
        throughput.plot(offered, [point["answered"] for point in points], label=label, **style)
        seen = [point for point in points if point["latency_ms"]]
        p99 = [point["latency_ms"]["p99"] / 1e3 for point in seen]
        latency.plot([point["offered"] for point in seen], p99, label=label, **style)
    throughput.axline((1, 1), (10, 10), color="0.8", linewidth=1, zorder=0)
    throughput.set_ylabel("answered with 200, crops a second")
    latency.set_ylabel("99th percentile of their latency, seconds")
    latency.axhline(1, color="0.8", linewidth=1, zorder=0)
    for axes in (throughput, latency):
        _scale(axes)
    throughput.legend(fontsize=8, frameon=False)
    facts = result["machine"]
    figure.suptitle(
        f"Crops of 224 x 224 on {facts['cores']} cores ({facts['processor']}), open loop, "
        f"{result['seconds_each']:g} s each, commit {str(result['commit'])[:7]}",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _scale(axes: Axes) -> None:
    axes.set_xlabel("offered, crops a second (Poisson arrivals)")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(which="major", color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")


def _label(name: str) -> str:
    kind, _, engine = name.partition(", ")
    if not engine:
        return {"ours": "ours, own size"}.get(name, name)
    inside = "PyTorch float32 at 224" if engine == "torch" else "our engine inside, own size"
    return f"{_LABELS.get(kind, kind)}, {inside}"


def _style(name: str) -> dict[str, Any]:
    kind, _, engine = name.partition(", ")
    colour, marker = _SERVERS.get(kind.removesuffix(" at 224"), _OTHER)
    solid = engine == "ours" or name == "ours"
    return {"color": colour, "marker": marker, "markersize": 4, "linestyle": "-" if solid else "--"}
