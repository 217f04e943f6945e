"""Large images at once: the largest JPEG that is read, from forty clients, and what it makes of a service's memory."""

import io
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
from PIL import Image

from testing.compose import Project

WIDTH, HEIGHT = 7900, 5000
CLIENTS, IMAGES_EACH = 40, 3

_MEMORY = """
import json, pathlib
groups = pathlib.Path("/sys/fs/cgroup")
v2 = (groups / "memory.peak").exists()
peak = groups / ("memory.peak" if v2 else "memory/memory.max_usage_in_bytes")
resident = max(
    int(line.split()[1])
    for status in pathlib.Path("/proc").glob("[0-9]*/status")
    for line in status.read_text().splitlines()
    if line.startswith("VmRSS")
)
print(json.dumps({"container_peak": int(peak.read_text()), "resident": resident * 1024}))
"""


def largest_image() -> bytes:
    """Return a JPEG of nearly as many pixels as are read."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x // 31 % 256, y // 20 % 256, (x + y) % 256], -1).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=85)
    return content.getvalue()


def memory(made: Project) -> dict[str, float]:
    """Return the most that the container has had, and what its largest process has, in MB."""
    found: dict[str, int] = json.loads(made.inside(_MEMORY))
    return {name: round(value / 1e6, 1) for name, value in found.items()}


def attacked(made: Project, image: bytes) -> dict[str, Any]:
    """Send the image from all clients at once, and return what became of the service."""

    def send(_number: int) -> str:
        try:
            return str(httpx.post(f"{made.address}/predict", files={"image": image}, timeout=300).status_code)
        except httpx.TransportError as error:
            return type(error).__name__

    before, restarts = memory(made), made.state()["RestartCount"]
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = Counter(clients.map(send, range(CLIENTS * IMAGES_EACH)))
    after, state = memory(made), made.state()
    return {
        "before_mb": before,
        "after_mb": after,
        "answers": dict(answers),
        "killed": state["State"]["OOMKilled"] or state["RestartCount"] > restarts,
    }
