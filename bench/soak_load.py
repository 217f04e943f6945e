"""Mixed load, good and bad: what the soak sends, how, and what its clients saw of it."""

import asyncio
import io
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import skimage.data
from PIL import Image, ImageDraw

BOUNDARY = b"a-boundary-of-the-soak"
LOOPS, BURST, BURST_EVERY = 6, 100, 20.0
ANSWER_WITHIN = 60.0
"""Seconds of the clock below; an answer that takes longer is lost. More than deadline and upload timeout together."""
TICK = 0.5
STILL = 5.0
"""Seconds; where a tick takes longer, the process did not run."""


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
        "batch": (5, form("/predict/batch?faces=whole", *[("images", crop)] * 5, ("images", b"no image"))),
        "explain": (1, form("/explain?faces=whole&overlays=false", ("image", crop))),
        "broken": (10, form("/predict", ("image", photo[: len(photo) // 2]))),
        "no image": (10, form("/predict", ("image", b"no image"))),
        "empty": (5, form("/predict", ("image", b""))),
        "wrong field": (5, form("/predict", ("photo", crop))),
        "wrong parameter": (5, form("/predict?faces=some", ("image", crop))),
        "no form": (5, Upload("/predict", b"Content-Type: image/jpeg\r\nContent-Length: 4\r\n", (b"JPEG",))),
        "oversize, stated": (3, form("/predict", ("image", bytes(2_500_000)))),
        "oversize, chunked": (3, endless(pieces=60)),
        "readiness": (5, Upload("/health/ready")),
        "model": (3, Upload("/model")),
        "nowhere": (3, Upload("/nowhere")),
    }


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _drawn() -> Image.Image:
    image = Image.new("RGB", (800, 600), (90, 120, 90))
    draw = ImageDraw.Draw(image)
    draw.ellipse((300, 150, 500, 420), fill=(230, 190, 160))
    for eye in (350, 430):
        draw.ellipse((eye, 240, eye + 24, 258), fill=(20, 20, 20))
    draw.arc((350, 300, 450, 380), 20, 160, fill=(150, 40, 40), width=6)
    return image


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
        cut_kinds: by kind; the service refused and closed while the body was still being sent, and the answer was lost
            on the way, or the process that held the connection was killed.
        lost: no answer came in time.
    """

    sent: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    hung_up: int = 0
    unborn: int = 0
    cut_kinds: Counter[str] = field(default_factory=Counter)
    lost: int = 0

    @property
    def cut(self) -> int:
        """Return how many were cut off."""
        return self.cut_kinds.total()


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
            answer = asyncio.ensure_future(read_answer(reader))
            await _send(writer, upload.body, answer)
            status, _ = await answer
            ledger.seen[status] += 1

        ledger.sent[kind] += 1
        try:
            await clock.within(ANSWER_WITHIN, exchange())
        except TimeoutError:
            ledger.lost += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            ledger.cut_kinds[kind] += 1


async def _send(writer: asyncio.StreamWriter, body: tuple[bytes, ...], answer: "asyncio.Future[Any]") -> None:
    try:
        for piece in body:
            if answer.done():
                return
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        return  # it was refused on the way; the answer is there, or was cut off


async def read_answer(reader: asyncio.StreamReader) -> tuple[str, str]:
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


async def fill(port: int, count: int, ledger: Ledger, clock: WakingClock) -> bool:
    """Send as many images at once as the service takes; return whether all were answered, or a place was missing."""
    crop = uploads()["crop"][1]
    before = ledger.seen["200"]
    await asyncio.gather(*(ask(port, "last burst", crop, ledger, clock) for _ in range(count)))
    return ledger.seen["200"] - before == count


async def send_mixed_load(port: int, seconds: float, ledger: Ledger, clock: WakingClock, chance: random.Random) -> None:
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
