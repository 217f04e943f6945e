"""Scaling: what the measured costs say of one machine, of ten and of a thousand. Nothing is measured here.

    python -m bench.studies.scaling --out bench/results/scaling.json

A machine without a GPU is replicas of two cores; one with a GPU is a front end for each core but one, before a network
that costs nothing, since the GPU is many times faster than what feeds it. Machines share nothing, so their rates add
up; what does not add up is told beside them: the traffic of all clients, and the series of metrics that are scraped.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import images
from bench.server import ROOT

RESULTS = ROOT / "bench/results"
CORES, REPLICA_CORES = 16, 2
MACHINES = (1, 10, 1000)
SERIES = 400
"""Series of metrics of one replica, or of one service of several front ends (``service.processes.memory``)."""

_HOUR = 3600.0


def result(name: str) -> Any:
    """Return a result file's content."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def kinds() -> dict[str, dict[str, float]]:
    """Return, for each kind of machine and upload, images a second of one machine, and how many replicas it has."""
    replicas = CORES // REPLICA_CORES
    model = {row["front_ends"]: row["crops_a_second"] for row in result("front_ends")["model_16_cores"]}
    crop, photograph = (sum(map(len, kind)) / len(kind) for kind in (images.crops(), images.photographs()))
    return {
        "crops, 16 cores": {
            "rate": replicas * result("crops")["servers"]["ours"]["answered"],
            "bytes": crop,
            "replicas": replicas,
        },
        "photographs, 16 cores": {
            "rate": replicas * result("photographs")["servers"]["ours"]["answered"],
            "bytes": photograph,
            "replicas": replicas,
        },
        "crops, 16 cores and a GPU": {"rate": model[CORES - 1], "bytes": crop, "replicas": 1},
    }


def scaled(kind: Mapping[str, float], machines: int) -> dict[str, float]:
    """Return what so many machines of a kind answer, and what comes in for it."""
    rate = kind["rate"] * machines
    return {
        "machines": machines,
        "images_per_second": round(rate),
        "gbit_per_second": round(8e-9 * rate * kind["bytes"], 2),
        "series": round(SERIES * kind["replicas"] * machines),
    }


def main() -> None:
    """Compute and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    found = {
        name: {
            "machine_hours_a_million": round(1e6 / kind["rate"] / _HOUR, 4),
            "core_hours_a_million": round(CORES * 1e6 / kind["rate"] / _HOUR, 3),
            "rows": [scaled(kind, machines) for machines in MACHINES],
        }
        for name, kind in kinds().items()
    }
    sources = {name: result(name)["commit"] for name in ("crops", "photographs", "front_ends")}
    asked.out.write_text(json.dumps({"computed_from": sources, "kinds": found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
