"""Soak: mixed load, good and bad, against a real process; every request must be accounted for.

    python bench/soak.py --minutes 20 --out bench/results/soak.json

Starts ``python -m service`` with the shipped weights and small bounds, and for so many minutes sends crops, photos,
broken and wrong uploads, oversized ones, batches, bursts over capacity, and clients that hang up at any stage. Then it
asks ``/metrics`` and holds four promises, any of which broken ends it with status 1:

- no answer is a 500, and the log has no error;
- sent = answered + refused + hung up, by what the clients saw and by what the service counted;
- resident memory in the last minutes is at most 3 % above that after the warm-up;
- the process ends on SIGTERM with status 0.

Minutes and limits count only while this process runs: on a machine where somebody stops it and the service for a while,
as for a measurement that wants quiet, nothing is taken for lost. The result says how long it stood still, and how much
of the processors others took meanwhile. SIGTERM ends the soak and its service.

The portrait is the astronaut that scikit-image ships (NASA, public domain); the other photo is drawn.
"""

import argparse
import asyncio
import io
import json
import os
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import skimage.data
from PIL import Image, ImageDraw

from training.run import commit, machine

BOUNDS = {"MANET_PORT": "0", "MANET_MAX_PICTURES": "32", "MANET_MAX_UPLOAD_BYTES": "2000000"}
"""So that bursts and oversized uploads stay small."""

ROOT = Path(__file__).parents[1]
BOUNDARY = b"a-boundary-of-the-soak"
LOOPS, BURST, BURST_EVERY = 6, 100, 20.0
MOST_GROWTH = 0.03
ANSWER_WITHIN = 60.0
"""Seconds of the clock below; an answer that takes longer is lost. More than deadline and upload timeout together."""
TICK = 0.5
STILL = 5.0
"""Seconds; where a tick takes longer, the process did not run."""


# -- what is sent


@dataclass(frozen=True)
class Upload:
    """A request: where to, its head, and its body in the pieces in which it goes out."""

    path: str
    headers: bytes = b""
    body: tuple[bytes, ...] = ()

    @property
    def head(self) -> bytes:
        """The request line and the headers."""
        method = b"POST" if self.headers else b"GET"
        line = method + b" " + self.path.encode() + b" HTTP/1.1\r\nHost: soak\r\n"
        return line + self.headers + b"\r\n"


def form(path: str, *parts: tuple[str, bytes]) -> Upload:
    """Return a multipart upload of files under their fields."""
    lines = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="x"\r\n\r\n%b\r\n'
        % (BOUNDARY, name.encode(), data)
        for name, data in parts
    ]
    body = b"".join(lines) + b"--" + BOUNDARY + b"--\r\n"
    return Upload(path, _form_type() + b"Content-Length: %d\r\n" % len(body), (body,))


def _part(name: str, data: bytes) -> bytes:
    head = b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="x"\r\n\r\n' % (BOUNDARY, name.encode())
    return head + data + b"\r\n"


def _form_type() -> bytes:
    return b"Content-Type: multipart/form-data; boundary=" + BOUNDARY + b"\r\n"


def endless(pieces: int) -> Upload:
    """Return a chunked upload of 64 KiB pieces, without a length."""
    start = _part("image", b"")
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [start, *[bytes(65536)] * pieces]]
    return Upload("/predict", _form_type() + b"Transfer-Encoding: chunked\r\n", (*chunks, b"0\r\n\r\n"))


def uploads() -> dict[str, tuple[int, Upload]]:
    """Return each kind of request with its weight."""
    portrait = Image.fromarray(skimage.data.astronaut())
    crop = _jpeg(portrait.crop((160, 50, 300, 190)).resize((224, 224)))
    photo, drawn = _jpeg(portrait), _jpeg(_drawn())
    return {
        "crop": (30, form("/predict?faces=whole", ("image", crop))),
        "photo": (10, form("/predict", ("image", photo))),
        "drawn": (10, form("/predict", ("image", drawn))),
        "batch": (5, form("/predict/batch?faces=whole", *[("images", crop)] * 5, ("images", b"no picture"))),
        "broken": (10, form("/predict", ("image", photo[: len(photo) // 2]))),
        "no picture": (10, form("/predict", ("image", b"no picture"))),
        "empty": (5, form("/predict", ("image", b""))),
        "wrong field": (5, form("/predict", ("picture", crop))),
        "wrong parameter": (5, form("/predict?faces=some", ("image", crop))),
        "no form": (5, Upload("/predict", b"Content-Type: image/jpeg\r\nContent-Length: 4\r\n", (b"JPEG",))),
        "oversize, stated": (3, form("/predict", ("image", bytes(2_500_000)))),
        "oversize, chunked": (3, endless(pieces=60)),
        "readiness": (5, Upload("/health/ready")),
        "model": (3, Upload("/model")),
        "nowhere": (3, Upload("/nowhere")),
    }


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _drawn() -> Image.Image:
    picture = Image.new("RGB", (800, 600), (90, 120, 90))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((300, 150, 500, 420), fill=(230, 190, 160))
    for eye in (350, 430):
        draw.ellipse((eye, 240, eye + 24, 258), fill=(20, 20, 20))
    draw.arc((350, 300, 450, 380), 20, 160, fill=(150, 40, 40), width=6)
    return picture


# -- how it is sent


class WakingClock:
    """Seconds in which this process ran.

    Attributes:
        seconds: in which it ran.
        still: in which it did not, though the time went on.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.still = 0.0

    async def run(self) -> NoReturn:
        """Count, until cancelled."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            if now - last > STILL:
                self.still += now - last
            else:
                self.seconds += now - last
            last = now

    async def within(self, seconds: float, work: Coroutine[Any, Any, None]) -> None:
        """Do some work.

        Raises:
            TimeoutError: if it was not done in so many seconds of this clock; it is cancelled.
        """
        task, end = asyncio.ensure_future(work), self.seconds + seconds
        while not task.done() and self.seconds < end:
            await asyncio.wait({task}, timeout=TICK)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise TimeoutError
        task.result()


@dataclass
class Ledger:
    """What became of every request, by what the clients saw.

    Attributes:
        sent: by kind; a request counts once its head is out.
        seen: by status.
        hung_up: clients that left on purpose after the head.
        unborn: clients that left before the head was whole: no request.
        cut: the service refused and closed while the body was still being sent, and the answer was lost on the way.
        lost: no answer came in time.
    """

    sent: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    hung_up: int = 0
    unborn: int = 0
    cut: int = 0
    lost: int = 0


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Hold a connection of its own; it is closed in order, so that what was sent is still read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(port: int, kind: str, upload: Upload, ledger: Ledger, clock: WakingClock) -> None:
    """Send a request and wait for its answer."""
    async with connection(port) as (reader, writer):

        async def exchange() -> None:
            writer.write(upload.head)
            answer = asyncio.ensure_future(_answer(reader))
            await _send(writer, upload.body, answer)
            status, _ = await answer
            ledger.seen[status] += 1

        ledger.sent[kind] += 1
        try:
            await clock.within(ANSWER_WITHIN, exchange())
        except TimeoutError:
            ledger.lost += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            ledger.cut += 1


async def _send(writer: asyncio.StreamWriter, body: tuple[bytes, ...], answer: "asyncio.Future[Any]") -> None:
    try:
        for piece in body:
            if answer.done():
                return
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        return  # it was refused on the way; the answer is there, or was cut off


async def _answer(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Return the status and the body of an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"\r\ncontent-length: (\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else b""
    return head[len("HTTP/1.1 ") :][:3], body.decode()


async def leave(port: int, kind: str, upload: Upload, ledger: Ledger, chance: random.Random) -> None:
    """Hang up at a random stage: before the head is whole, in the body, or while the answer is awaited."""
    async with connection(port) as (_, writer):
        stage = chance.randrange(4)
        if stage == 0:
            ledger.unborn += 1
            writer.write(upload.head[: chance.randrange(len(upload.head) - 2)])
            return
        ledger.sent[kind] += 1
        ledger.hung_up += 1
        writer.write(upload.head)
        body = b"".join(upload.body)[:1_000_000]
        part = {1: 0, 2: chance.randrange(len(body) + 1), 3: len(body)}[stage]
        try:
            writer.write(body[:part])
            await writer.drain()
            await asyncio.sleep(chance.random() * 0.2)
        except ConnectionError:
            return


async def soak(port: int, seconds: float, ledger: Ledger, clock: WakingClock, chance: random.Random) -> None:
    """Send everything, in loops and in bursts, for so long."""
    kinds = uploads()
    names, weights = list(kinds), [weight for weight, _ in kinds.values()]
    end = clock.seconds + seconds

    async def loop() -> None:
        while clock.seconds < end:
            [kind] = chance.choices(names, weights)
            upload = kinds[kind][1]
            if chance.random() < 0.1 and upload.body:
                await leave(port, kind, upload, ledger, chance)
            else:
                await ask(port, kind, upload, ledger, clock)
            await asyncio.sleep(chance.random() * 0.05)

    async def bursts() -> None:
        while clock.seconds + BURST_EVERY < end:
            await asyncio.sleep(BURST_EVERY)
            await asyncio.gather(*(ask(port, "burst", kinds["crop"][1], ledger, clock) for _ in range(BURST)))

    await asyncio.gather(bursts(), *(loop() for _ in range(LOOPS)))


# -- the process


class Service:
    """A running service: its port, its memory over time, its log."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        self.process, self.log = process, process.stderr
        self.port = self._port()
        self.errors: list[str] = []
        threading.Thread(target=self._read_log, daemon=True).start()

    def _port(self) -> int:
        for line in self.log:
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                return int(found[1])
        raise SystemExit("the service did not start")

    def _read_log(self) -> None:
        self.errors += [line for line in self.log if re.match(r"ERROR|CRITICAL|Traceback", line)]

    def resident_mb(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    async def counted(self) -> Counter[str]:
        """Return, once nothing is in work, the requests that the service counted, by status."""
        while True:
            async with connection(self.port) as (reader, writer):
                writer.write(Upload("/metrics").head)
                _, text = await _answer(reader)
            if not re.search(r"^manet_(pictures_in_work|uploads_arriving) (?!0\.0$)", text, re.MULTILINE):
                break
            await asyncio.sleep(0.5)
        counted: Counter[str] = Counter()
        for labels, value in re.findall(r"^manet_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE):
            if 'route="/metrics"' not in labels:
                counted[re.search(r'status="(\d+)"', labels)[1]] += int(float(value))  # type: ignore[index]
        return counted

    def stop(self) -> int:
        """End it in order and return its status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=300)


@contextmanager
def started() -> Iterator[Service]:
    """Hold a service; whatever happens, its process ends with it."""
    command = [sys.executable, "-m", "service"]
    environment = {**os.environ, **BOUNDS}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Service(process)
        finally:
            process.kill()


async def sampled(
    service: Service, work: Awaitable[None], clock: WakingClock, every: float
) -> list[tuple[float, float]]:
    """Return (seconds, megabytes) of the process while some work is done."""
    series = []
    task = asyncio.ensure_future(work)
    while not task.done():
        series.append((clock.seconds, service.resident_mb()))
        await asyncio.wait({task}, timeout=every)
    await task
    return series


# -- what is made of it


def memory(series: list[tuple[float, float]]) -> dict[str, Any]:
    """Return how memory went: the median of a tenth of the time, after the warm-up and at the end."""
    seconds = series[-1][0]

    def median(low: float, high: float) -> float:
        return statistics.median(megabytes for at, megabytes in series if low * seconds <= at <= high * seconds)

    after_warm_up, end = median(0.2, 0.3), median(0.9, 1.0)
    step = max(1, len(series) // 40)
    return {
        "after_warm_up_mb": round(after_warm_up, 1),
        "end_mb": round(end, 1),
        "growth_percent": round(100 * (end / after_warm_up - 1), 2),
        "series_s_mb": [[round(at), round(megabytes, 1)] for at, megabytes in series[::step]],
    }


def promises(ledger: Ledger, counted: Counter[str], grown: float, status: int, errors: list[str]) -> dict[str, bool]:
    """Return which promises hold."""
    sent, seen = sum(ledger.sent.values()), sum(ledger.seen.values())
    unseen = counted - ledger.seen
    return {
        "no 500": not counted["500"] and not ledger.seen["500"],
        "no error in the log": not errors,
        "nothing lost": ledger.lost == 0,
        "every request counted": counted.total() == sent,
        "every answer counted": not ledger.seen - counted,
        "sent = answered + refused + hung up": sent == seen + ledger.hung_up + ledger.cut,
        "only who left or was cut off saw no answer": unseen.total() == ledger.hung_up + ledger.cut,
        "memory flat": grown <= 100 * MOST_GROWTH,
        "ends with status 0": status == 0,
    }


def _busy() -> float:
    """Return the seconds that the machine's processors have worked, for whomever (proc_stat(5))."""
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts = map(
        int, Path("/proc/stat").read_text().split()[1:8]
    )
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def _service_seconds() -> float:
    """Return what the service took of them; known when it has ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


async def observed(
    service: Service, seconds: float, ledger: Ledger, clock: WakingClock, seed: int
) -> tuple[list[tuple[float, float]], Counter[str]]:
    """Soak a service; return its memory over time and what it counted."""
    ticking = asyncio.create_task(clock.run())
    try:
        work = soak(service.port, seconds, ledger, clock, random.Random(seed))
        return await sampled(service, work, clock, every=2.0), await service.counted()
    finally:
        ticking.cancel()


def _leave(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    """Soak, hold the promises, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    ledger, clock = Ledger(), WakingClock()
    signal.signal(signal.SIGTERM, _leave)
    busy, own = _busy(), time.process_time()
    with started() as service:
        series, counted = asyncio.run(observed(service, 60 * asked.minutes, ledger, clock, asked.seed))
        status = service.stop()
    cpu = {"service": _service_seconds(), "generator": time.process_time() - own}
    cpu["others"] = _busy() - busy - sum(cpu.values())
    went = memory(series)
    held = promises(ledger, counted, went["growth_percent"], status, service.errors)
    result = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "minutes": asked.minutes,
        "stood_still_seconds": round(clock.still),
        "cpu_seconds": {name: round(seconds) for name, seconds in cpu.items()},
        "machine_shared": clock.still > 0 or cpu["others"] > cpu["generator"],
        "settings": BOUNDS,
        "promises": held,
        "sent": dict(sorted(ledger.sent.items())),
        "sent_total": ledger.sent.total(),
        "seen_by_clients": dict(sorted(ledger.seen.items())),
        "counted_by_the_service": dict(sorted(counted.items())),
        "hung_up": ledger.hung_up,
        "cut_off": ledger.cut,
        "lost": ledger.lost,
        "left_before_the_head_was_whole": ledger.unborn,
        "log_errors": service.errors[:20],
        "memory": went,
    }
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "memory"}, indent=1))
    print({key: value for key, value in went.items() if key != "series_s_mb"})
    if not all(held.values()):
        raise SystemExit(f"broken: {', '.join(name for name, holds in held.items() if not holds)}")


if __name__ == "__main__":
    main()
