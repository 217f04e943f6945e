"""The protocol against h11, a second parser: thousands of generated streams of requests, in random cuts.

What it must never do is take for a request what h11 takes for a body, or for nothing at all: behind a proxy that parses
as h11 does that would be a smuggled request (CWE-444). ``python -m tests.service.http.test_differential --minutes 60``
runs for longer, and writes what it did as JSON.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h11
import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.http.protocol import BoundedProtocol, ConnectionBounds

STREAMS = 1000
BODIES = (b"", b"x", b"hello", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")


class Seen(NamedTuple):
    """A request as a parser saw it."""

    method: bytes
    target: bytes
    body: bytes


@dataclass(frozen=True)
class Outcome:
    """What a parser made of a stream.

    Attributes:
        requests: those that were whole, in their order.
        refused: whether it reads no further.
    """

    requests: tuple[Seen, ...]
    refused: bool


class Streams:
    """Makes streams of requests, most of them right.

    Args:
        seed: of all that is drawn.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self) -> bytes:
        """Return a stream of one to four requests."""
        return b"".join(self._request() for _ in range(self._random.randint(1, 4)))

    def cuts(self, stream: bytes) -> list[bytes]:
        """Return a stream in pieces: whole, byte by byte, or cut in a few places."""
        kind = self._random.random()
        if kind < 0.2:
            return [stream]
        if kind < 0.3:
            return [stream[at : at + 1] for at in range(len(stream))]
        places = sorted(self._random.randint(0, len(stream)) for _ in range(self._random.randint(1, 6)))
        return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True) if a < b]

    def _rarely(self, share: float = 0.04) -> bool:
        return self._random.random() < share

    def _one(self, *choices: bytes) -> bytes:
        return self._random.choice(choices)

    def _request(self) -> bytes:
        method = self._one(b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH")
        target = self._one(b"/", b"/predict", b"/a?b=c&d", b"/%41%2f", b"/v2/models/m/infer", b"/long/path")
        version = self._one(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0")
        fields = [b"Host: x"]
        if self._rarely(0.3):
            offer = self._one(b"h2c", b"TLS/1.3", b"foo/1", b"h2c, foo/2")
            fields += [b"Connection: " + self._one(b"Upgrade", b"Upgrade, HTTP2-Settings"), b"Upgrade: " + offer]
            fields += [b"HTTP2-Settings: AAEAAEAAAAIAAAAB"]
        elif self._rarely(0.1):
            fields.append(b"Connection: " + self._one(b"close", b"keep-alive", b"Keep-Alive, x"))
        if self._rarely(0.1):
            fields.append(self._one(b"Expect: 100-continue", b"Accept: */*", b"X-Empty:", b"Cookie: a=b; c=d"))
        if self._rarely(0.05):
            fields.append(b"TE: trailers")
        framing, content = self._body()
        fields += framing
        self._random.shuffle(fields)
        head = b"\r\n".join([b" ".join((method, target, version)), *fields])
        return self._spoiled(head) + b"\r\n\r\n" + content

    def _body(self) -> tuple[list[bytes], bytes]:
        body = self._random.choice(BODIES)
        kind = self._random.random()
        if kind < 0.35:
            return [], b""
        if kind < 0.7:
            stated = [b"Content-Length: %d" % len(body)]
            if self._rarely(0.05):
                stated = [b"Content-Length: %d, %d" % (len(body), len(body))]
            if self._rarely(0.05):
                stated *= 2
            if self._rarely(0.05):
                stated = [
                    self._one(
                        b"Content-Length: +5", b"Content-Length: 5 5", b"Content-Length: -1", b"Content-Length: 0x5"
                    )
                ]
            if self._rarely(0.03):
                stated.append(b"Transfer-Encoding: chunked")
            return stated, body
        size = self._random.randint(1, 20)
        chunks = [body[at : at + size] for at in range(0, len(body), size)]
        extension = b";a=b" if self._rarely(0.1) else b""
        content = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
        trailers = b"X-Trailer: 1\r\n" if self._rarely(0.1) else b""
        last = self._one(b"0", b"0", b"000") + b"\r\n"
        if self._rarely(0.05):
            last = self._one(b"0\n", b"0x0\r\n", b"-0\r\n", b" 0\r\n", b"0 \r\n")
        coding = b"chunked"
        if self._rarely(0.05):
            coding = self._one(
                b"Chunked", b"gzip, chunked", b"identity", b"chunked, identity", b"\x0bchunked", b"xchunked"
            )
        return [b"Transfer-Encoding: " + coding], content + last + trailers + b"\r\n"

    def _spoiled(self, head: bytes) -> bytes:
        # Left out is what RFC 9112 lets a server read and h11 refuses: an empty line before a request (section 2.2),
        # and more than one space in its first line (section 3).
        if not self._rarely(0.05):
            return head
        return self._random.choice(
            (
                head.replace(b"Host: x", b"Host : x"),
                head.replace(b"Host: x", b"Host: x\r\n folded"),
                head.replace(b"Host: x", b"Host: x\nX-Bare: 1"),
                head.replace(b"Host: x", b""),
                head.replace(b"Host: x", b"Host: x\r\nHost: y"),
                head.replace(b"Host: x", b"X-Null: a\x00b\r\nHost: x"),
                head.replace(b"HTTP/1.1", b"HTTP/2.0"),
            )
        )


def by_h11(stream: bytes) -> Outcome:
    """Return what h11 makes of a stream, each of whose requests is answered and no upgrade taken."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(stream)
    requests: list[Seen] = []
    request: h11.Request | None = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                requests.append(Seen(request.method, request.target, body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    break
                connection.start_next_cycle()
            else:
                break
    except h11.RemoteProtocolError:
        return Outcome(tuple(requests), True)
    return Outcome(tuple(requests), False)


class _Observer:
    def answered(self, route: str, status: int, seconds: float) -> None:
        """Note nothing."""


class _Transport(asyncio.Transport):
    """Takes what is written, and notes whether it was closed."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...


class Ours:
    """The service's protocol in front of an application that notes what it was asked."""

    def __init__(self) -> None:
        self._requests: list[Seen] = []
        self._config = Config(
            self._answer, interface="asgi3", http="httptools", ws="none", lifespan="off", log_config=None
        )
        self._config.load()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self._requests.append(Seen(scope["method"].encode(), target, body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def outcome(self, pieces: Sequence[bytes]) -> Outcome:
        """Return what it makes of a stream that comes in these pieces."""
        self._requests = []
        transport, state = _Transport(), ServerState()
        protocol = BoundedProtocol(
            observer=_Observer(),
            bounds=ConnectionBounds(),
            config=self._config,
            server_state=state,
            app_state={},
        )
        protocol.connection_made(transport)
        for piece in pieces:
            if transport.closed:
                break
            protocol.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(200):
            if not state.tasks:
                break
            await asyncio.sleep(0)
        refused = transport.closed
        protocol.connection_lost(None)
        if state.tasks:
            await asyncio.wait(state.tasks)
        return Outcome(tuple(self._requests), refused)


def verdict(ours: Outcome, theirs: Outcome) -> str:
    """Return how the two differ: ``same``, ``stricter`` (we refuse what h11 reads), or what may not be."""
    if ours.requests == theirs.requests:
        return "same"
    if ours.requests == theirs.requests[: len(ours.requests)] and ours.refused:
        return "stricter"
    if theirs.requests == ours.requests[: len(theirs.requests)] and theirs.refused:
        return "laxer"
    return "different"


Found = list[tuple[bytes, Outcome, Outcome]]
"""Streams, with what we made of them and what h11 did."""


async def compare(
    seed: int, *, streams: int | None = None, seconds: float | None = None
) -> tuple[Counter[str], list[Any]]:
    """Return how often each verdict was given, and the streams that we read otherwise than h11."""
    made, ours = Streams(seed), Ours()
    counted: Counter[str] = Counter()
    found: Found = []
    end = None if seconds is None else time.monotonic() + seconds
    while (streams is None or counted.total() < streams) and (end is None or time.monotonic() < end):
        stream = made.next()
        theirs = by_h11(stream)
        seen = await ours.outcome(made.cuts(stream))
        told = verdict(seen, theirs)
        counted[told] += 1
        if told in ("laxer", "different") and len(found) < 20:
            found.append((stream, seen, theirs))
    return counted, found


@pytest.mark.parametrize("seed", range(3))
def test_no_stream_is_read_otherwise_than_h11_reads_it(seed: int) -> None:
    counted, found = asyncio.run(compare(seed, streams=STREAMS))

    assert found == []
    assert counted["same"] > 0.8 * STREAMS


def main() -> None:
    """Compare for some minutes, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    counted, found = asyncio.run(compare(asked.seed, seconds=60 * asked.minutes))
    facts = {"minutes": asked.minutes, "seed": asked.seed, "streams": counted.total(), **counted}
    asked.out.write_text(json.dumps({**facts, "found": [repr(one) for one in found]}, indent=2) + "\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
