"""Live video: frames a second and how old their answers are, with 1, 4 and 16 streams of 640 x 480 at 15 a second.

    python -m bench.stream --out bench/results/stream.json

Each client sends a frame every 66.7 ms, as a camera does, whether or not the last one is answered. Two ages are told:
the service's own, from a frame's arrival to its answer, and the client's, from its sending to the answer's arrival.
The image is the astronaut that scikit-image ships, laid on grey and moved from frame to frame.
"""

import argparse
import asyncio
import io
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image
from websockets.asyncio.client import connect

from bench.machine import heading, quietness
from bench.programs import ours
from bench.server import started

SIZE = (640, 480)
RATE = 15.0


@dataclass(slots=True)
class Seen:
    """What one client saw."""

    sent: dict[int, float] = field(default_factory=dict)
    service_ms: list[float] = field(default_factory=list)
    client_ms: list[float] = field(default_factory=list)
    faces: int = 0
    problems: int = 0
    tracks: set[int] = field(default_factory=set)


def frames(number: int = 30) -> list[bytes]:
    """Return JPEG frames in which a portrait moves from left to right and back."""
    portrait, made = Image.fromarray(skimage.data.astronaut()[:480]), []
    for step in range(number):
        frame = Image.new("RGB", SIZE, "grey")
        frame.paste(portrait, (round(64 + 60 * np.sin(2 * np.pi * step / number)), 0))
        buffer = io.BytesIO()
        frame.save(buffer, "JPEG", quality=80)
        made.append(buffer.getvalue())
    return made


async def client(port: int, images: list[bytes], seconds: float, phase: float) -> Seen:
    """Stream for so many seconds and return what came back."""
    seen = Seen()
    async with connect(f"ws://127.0.0.1:{port}/stream", compression=None) as socket:

        async def listen() -> None:
            async for text in socket:
                answer, now = json.loads(text), time.perf_counter()
                if "problem" in answer:
                    seen.problems += 1
                    continue
                seen.service_ms.append(answer["age_ms"])
                seen.client_ms.append(1e3 * (now - seen.sent[answer["frame"]]))
                seen.faces += len(answer["faces"])
                seen.tracks |= {face["track"] for face in answer["faces"]}

        listener = asyncio.create_task(listen())
        began = time.perf_counter() + phase
        for number in range(round(seconds * RATE)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            seen.sent[number] = time.perf_counter()
            await socket.send(images[number % len(images)])
        listener.cancel()
        await asyncio.wait([listener])
    return seen


async def together(port: int, images: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Return the figures of so many clients at once."""
    work = (client(port, images, seconds, number / clients / RATE) for number in range(clients))
    all_seen = await asyncio.gather(*work)
    answered = [len(seen.client_ms) for seen in all_seen]
    return {
        "clients": clients,
        "sent_a_second": round(sum(len(seen.sent) for seen in all_seen) / seconds, 1),
        "answered_a_second": round(sum(answered) / seconds, 1),
        "of_the_slowest_client": round(min(answered) / seconds, 1),
        "problems": sum(seen.problems for seen in all_seen),
        "frames_with_one_face": round(sum(seen.faces for seen in all_seen) / max(1, sum(answered)), 4),
        "most_tracks_of_the_one_face": max(len(seen.tracks) for seen in all_seen),
        "service_age_ms": _spread([age for seen in all_seen for age in seen.service_ms]),
        "client_age_ms": _spread([age for seen in all_seen for age in seen.client_ms]),
    }


def _spread(ages: list[float]) -> dict[str, float]:
    names = {"p50": 50, "p95": 95, "p99": 99, "most": 100}
    return {name: round(float(np.percentile(ages, share)), 1) for name, share in names.items()}


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="with each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    result = heading() | {"quiet_before": quietness(), "size": SIZE, "rate": RATE, "seconds_each": asked.seconds}
    images = frames()
    with tempfile.TemporaryDirectory() as folder:
        program = ours("ferplus")
        with started(program, Path(folder) / "log") as server:
            asyncio.run(together(server.port, images, 1, 2.0))
            rows = [asyncio.run(together(server.port, images, n, asked.seconds)) for n in asked.clients]
            result |= {"resident_mb": round(server.resident_mb(), 1)}
    result["rows"] = rows
    asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
