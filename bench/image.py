"""The image on a real engine: its build, its size, its start, its memory and its health check.

    python -m bench.image --out bench/results/image.json

What Compose promises besides is in ``tests/docker/test_engine.py``.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import skimage.data
from PIL import Image

from testing.compose import HEALTH_CHECK, ROOT, inspect, missing, project
from training.provenance import commit, machine

STARTS = 3

_FOLDER = """
import pathlib
print(sum(path.lstat().st_size for path in pathlib.Path("/opt/manet").rglob("*")))
"""

_RESIDENT = """
import pathlib
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if "manet-serve" in (process / "cmdline").read_text() and "tini" not in (process / "comm").read_text():
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        print(status["VmRSS"].split()[0])
"""


def portrait() -> bytes:
    """Return the astronaut that scikit-image ships (NASA, public domain), as a JPEG of 512 x 512."""
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def started() -> dict[str, Any]:
    """Start the service once, ask it, and return what was seen."""
    with project() as made:
        made("create")
        began = time.perf_counter()
        made("start")
        while not _ready(made.address):
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        answer = httpx.post(f"{made.address}/predict", files={"image": portrait()}, timeout=60).raise_for_status()
        return {
            "seconds_to_ready": round(seconds, 2),
            "resident_mb": round(max(map(int, made.inside(_RESIDENT).split())) / 1024, 1),
            "health_check_cpu_seconds": round(float(made.inside(HEALTH_CHECK)), 3),
            "folder_bytes": int(made.inside(_FOLDER)),
            "backend": httpx.get(f"{made.address}/model", timeout=5).json()["backend"],
            "expressions": [face["expression"] for face in answer.json()["faces"]],
        }


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready", timeout=1).is_success
    except httpx.TransportError:
        return False


def main() -> None:
    """Build the image, measure it and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(reason)
    began = time.perf_counter()
    subprocess.run(["docker", "compose", "build", "--no-cache", "manet"], cwd=ROOT, check=True)
    built = time.perf_counter() - began
    runs = [started() for _ in range(STARTS)]
    whole, folder = inspect("manet:cpu")["Size"], runs[0]["folder_bytes"]
    result = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "seconds_to_build": round(built),
        "megabytes": {"all": round(whole / 1e6, 1), "opt/manet": round(folder / 1e6, 1)},
        "seconds_to_ready": [run["seconds_to_ready"] for run in runs],
        "resident_mb": max(run["resident_mb"] for run in runs),
        "health_check_cpu_seconds": min(run["health_check_cpu_seconds"] for run in runs),
        "backend": runs[-1]["backend"],
        "expressions": runs[-1]["expressions"],
    }
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
