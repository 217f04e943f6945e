"""The image, tried without a Docker engine: its size, its start, an answer, on a root that no one can write to.

    root=$(buildah mount "$(buildah from manet:cpu)")
    sudo unshare --mount --net --pid --fork --mount-proc python bench/image.py "$root" --out bench/results/image.json

Takes an image's unpacked root and runs its entry point as its user: in namespaces of its own, with a network that has
nothing but the loopback, the root mounted read-only, a tmpfs on /tmp, no
capabilities and no new privileges. That is what ``docker run --read-only --network none --cap-drop ALL --security-opt
no-new-privileges`` requests, without the engine's own seccomp profile and control groups.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import skimage.data
from PIL import Image

from training.provenance import commit, machine

USER = 10001
ADDRESS = "http://127.0.0.1:8000"
START_SECONDS = 120.0
STARTS = 3
PARTS = ("usr", "opt/manet")
ENVIRONMENT = {
    "TINI_SUBREAPER": "1",  # here tini is not process 1
    "PATH": "/opt/manet/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MANET_HOST": "0.0.0.0",
    "MANET_ALLOW_ANONYMOUS": "true",
    "MANET_BACKEND": "openvino",
}
"""What the Dockerfile sets, which an engine would read from the image, and that no key is requested."""

_WRITE = """
import sys
try:
    open(sys.argv[1], "w")
except OSError as error:
    print(type(error).__name__, error.strerror)
"""


def megabytes(folder: Path) -> float:
    """Return what a folder takes, in megabytes of 10^6 bytes; other file systems mounted below are left out."""
    done = subprocess.run(["du", "-sxB1", folder], capture_output=True, text=True, check=True)
    return round(int(done.stdout.split()[0]) / 1e6, 1)


def close_up(root: Path) -> None:
    """Mount the root on itself, read-only, with the few file systems that a container gets."""
    devices = ("null", "zero", "urandom")
    for command in (
        "mount --make-rprivate /",
        f"mount --bind {root} {root}",
        f"mount -t proc proc {root}/proc",
        f"mount -t sysfs -o ro sysfs {root}/sys",
        f"mount -t tmpfs -o mode=755,size=1m tmpfs {root}/dev",
        *(f"touch {root}/dev/{name}" for name in devices),
        *(f"mount --bind /dev/{name} {root}/dev/{name}" for name in devices),
        f"mount -t tmpfs -o mode=1777,size=64m,noexec,nosuid,nodev tmpfs {root}/tmp",
        f"mount -o remount,bind,ro {root}",
        "ip link set lo up",
    ):
        subprocess.run(command.split(), check=True)


def inside(root: Path, *command: str) -> list[str]:
    """Return the command line that runs a command in the root, as the image's user, with no way to more rights."""
    user = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    nothing_more = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    return ["/usr/sbin/chroot", str(root), "/usr/bin/setpriv", *user, *nothing_more, *command]


@contextmanager
def started(root: Path, **settings: str) -> Iterator[tuple[int, float]]:
    """Yield the service's process and the seconds until it was ready; then stop it as an engine does.

    Raises:
        TimeoutError: if it does not become ready.
        RuntimeError: if it leaves with another status than 0.
    """
    began = time.perf_counter()
    init = subprocess.Popen(inside(root, "/usr/bin/tini", "--", "manet-serve"), env={**ENVIRONMENT, **settings})
    try:
        while not _ready():
            if init.poll() is not None or time.perf_counter() - began > START_SECONDS:
                raise TimeoutError("the service did not become ready")
            time.sleep(0.02)
        took = time.perf_counter() - began
        [served] = Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()
        yield int(served), took
        init.send_signal(signal.SIGTERM)
        if (status := init.wait(timeout=60)) != 0:
            raise RuntimeError(f"the service left with status {status}")
    finally:
        init.kill()
        init.wait()


def portrait() -> bytes:
    """Return the astronaut that scikit-image ships (NASA, public domain), as a JPEG of 512 x 512."""
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _ready() -> bool:
    try:
        return httpx.get(f"{ADDRESS}/health/ready", timeout=1).is_success
    except httpx.TransportError:
        return False


def facts(root: Path) -> dict[str, Any]:
    """Start the service several times, ask it, and return what was seen."""
    starts: list[float] = []
    for _ in range(STARTS):
        with started(root) as (process, seconds):
            starts.append(round(seconds, 2))
            upload = {"image": ("portrait.jpg", portrait())}
            answer = httpx.post(f"{ADDRESS}/predict", files=upload, timeout=30).raise_for_status().json()
            explained = httpx.post(f"{ADDRESS}/explain", files=upload, timeout=30)
            page = httpx.get(f"{ADDRESS}/", timeout=5)
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
            model = httpx.get(f"{ADDRESS}/model", timeout=5).json()
            check = subprocess.run(inside(root, "python", "/opt/healthcheck.py"), env=ENVIRONMENT, check=False)
    return {
        "seconds_to_ready": starts,
        "resident_mb": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "user": int(status["Uid"].split()[0]),
        "effective_capabilities": status["CapEff"].strip(),
        "no_new_privileges": status["NoNewPrivs"].strip() == "1",
        "health_check_status": check.returncode,
        "health_check_status_when_stopped": subprocess.run(
            inside(root, "python", "/opt/healthcheck.py"), env=ENVIRONMENT, check=False
        ).returncode,
        "writing": {path: _written(root, path) for path in ("/opt/manet/x", "/x")},
        "torch_installed": any(root.glob("opt/manet/lib/python3*/site-packages/torch")),
        "bodies_of_spans": spans(root),
        "page_status": page.status_code,
        "explain": {"status": explained.status_code, "type": explained.json()["type"]},
        "backend": model["backend"],
        "expressions": [face["expression"] for face in answer["faces"]],
        "confidences": [round(face["confidence"], 4) for face in answer["faces"]],
    }


def spans(root: Path) -> int:
    """Start the service with traces, ask it once, and return how many bodies of spans a collector was sent."""
    sent = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        try:
            with started(root, MANET_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}/v1/traces"):
                httpx.post(f"{ADDRESS}/predict", files={"image": portrait()}, timeout=30).raise_for_status()
        finally:
            collector.shutdown()
            thread.join()
    return len(sent)


def _written(root: Path, path: str) -> str:
    """Return what the user gets who writes there: the error, or ``written``."""
    done = subprocess.run(
        inside(root, "python", "-c", _WRITE, path), env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip() or "written"


def main() -> None:
    """Measure an unpacked image and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the image's unpacked root")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("mounting needs root")
    sizes = {"all": megabytes(asked.root), **{part: megabytes(asked.root / part) for part in PARTS}}
    close_up(asked.root)
    result = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "isolation": "own mount, network (loopback only) and process namespaces; root mounted read-only",
        "megabytes": sizes,
        **facts(asked.root),
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
