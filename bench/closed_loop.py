"""Closed-loop load: N clients, each posting its next picture when the last one is answered.

    python bench/closed_loop.py --url http://127.0.0.1:8000 --pid PID --out bench/results/served.json

Posts one picture with ``faces=whole`` (a 224 px JPEG crop) and one with ``faces=detect`` (the whole portrait), from 1
and from 32 clients, and writes requests a second, latency quantiles, the server's resident memory and CPU time, and
the load generator's own CPU time. The portrait is the astronaut that scikit-image ships (NASA, public domain).
"""

import argparse
import asyncio
import io
import json
import os
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import skimage.data
from PIL import Image

from training.run import commit, machine

CLIENTS = (1, 32)


def pictures() -> dict[str, bytes]:
    """Return the two uploads by face mode."""
    portrait = Image.fromarray(skimage.data.astronaut())
    crop = portrait.crop((160, 50, 300, 190)).resize((224, 224))
    return {"whole": _jpeg(crop), "detect": _jpeg(portrait)}


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def load(url: str, mode: str, upload: bytes, clients: int, seconds: float) -> dict[str, Any]:
    """Return what ``clients`` closed loops saw in ``seconds``."""
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    end = time.perf_counter() + seconds

    async def client(http: httpx.AsyncClient) -> None:
        while time.perf_counter() < end:
            began = time.perf_counter()
            answer = await http.post(f"{url}/predict", params={"faces": mode}, files={"image": ("a.jpg", upload)})
            latencies.append(time.perf_counter() - began)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

    limits = httpx.Limits(max_connections=clients)
    began, cpu = time.perf_counter(), time.process_time()
    async with httpx.AsyncClient(limits=limits, timeout=60) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    took = time.perf_counter() - began
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "faces": mode,
        "clients": clients,
        "requests": len(latencies),
        "statuses": statuses,
        "requests_per_second": round(len(latencies) / took, 2),
        "p50_ms": round(1e3 * cuts[49], 2),
        "p99_ms": round(1e3 * cuts[98], 2),
        "generator_cpu_seconds": round(time.process_time() - cpu, 2),
    }


def server_facts(pid: int) -> dict[str, float]:
    """Return the server's resident memory (MB) and CPU seconds so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    return {"resident_mb": round(resident / 1024, 1), "cpu_seconds": ticks / os.sysconf("SC_CLK_TCK")}


async def main() -> None:
    """Run every pairing and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--pid", type=int, required=True, help="the server's process, for memory and CPU time")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rows = []
    for mode, upload in pictures().items():
        for clients in CLIENTS:
            await load(asked.url, mode, upload, clients, min(2.0, asked.seconds))  # warm
            before = server_facts(asked.pid)
            row = await load(asked.url, mode, upload, clients, asked.seconds)
            after = server_facts(asked.pid)
            spent = after["cpu_seconds"] - before["cpu_seconds"]
            rows.append({**row, "server_cpu_seconds": round(spent, 2), "server_resident_mb": after["resident_mb"]})
            print(rows[-1])
    model = httpx.get(f"{asked.url}/model").json()
    result = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "model": model["id"],
        "backend": model["backend"],
        "seconds_each": asked.seconds,
        "rows": rows,
    }
    asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
