"""Wire: HTTP/1.1 requests built once, sent over kept-alive connections; of an answer only its status is looked at.

Close to the socket on purpose: the load generator shares the processors with the server that it measures.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

LOST = 0
"""The status of a request that got no answer: refused, broken off, or not answered in time."""

_BOUNDARY = "bench-boundary"


def post(path: str, body: bytes, content_type: str) -> bytes:
    """Return a whole POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def post_form(path: str, field: str, file: bytes) -> bytes:
    """Return a whole POST request that uploads one JPEG in a multipart form (RFC 7578)."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="image.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + file + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return post(path, body, f"multipart/form-data; boundary={_BOUNDARY}")


@dataclass(slots=True, eq=False)
class Exchange:
    """A request and who waits for its answer.

    Attributes:
        request: all its bytes.
        sending: called when it is handed to a connection.
        answered: called with the status of its answer, or ``LOST``.
        sent_again: whether its first connection broke before a byte of an answer came.
    """

    request: bytes
    sending: Callable[[], None]
    answered: Callable[[int], None]
    sent_again: bool = False


class _Connection(asyncio.Protocol):
    """One connection, with at most one request on its way."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._answers = 0
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it

    def send(self, exchange: Exchange) -> None:
        """Send a request; the connection must be open and idle."""
        assert self._transport is not None
        assert self._exchange is None
        self._exchange, self._begun = exchange, False
        exchange.sending()
        self._transport.write(exchange.request)

    def close(self) -> None:
        """Close the connection, whatever is on its way."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_complete(self) -> None:  # called by the parser
        exchange, self._exchange = self._exchange, None
        self._answers += 1
        if exchange is None:
            self.close()
            return
        exchange.answered(self._parser.get_status_code())
        if self._parser.should_keep_alive():
            self._pool.free(self)
        else:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        self._pool.lost(self, exchange, idle_before=self._answers > 0 and not self._begun)


class Pool:
    """Connections to one server, opened as they are needed, up to a limit; what finds none free waits its turn.

    Args:
        host: of the server.
        port: of the server.
        limit: the most connections.
    """

    def __init__(self, host: str, port: int, limit: int) -> None:
        self._address = (host, port)
        self._limit = limit
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._waiting: deque[Exchange] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False

    def submit(self, exchange: Exchange) -> None:
        """Send a request as soon as a connection is free."""
        if self._idle:
            self._idle.pop().send(exchange)
        elif len(self._open) + len(self._opening) < self._limit:
            task = asyncio.get_running_loop().create_task(self._connect(exchange))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._waiting.append(exchange)

    def close(self) -> None:
        """Close every connection; what has no answer yet is lost."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().answered(LOST)
        for task in self._opening:
            task.cancel()
        for connection in list(self._open):
            connection.close()

    def free(self, connection: _Connection) -> None:
        """Take a connection back that is idle."""
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection, exchange: Exchange | None, *, idle_before: bool) -> None:
        """Forget a connection that was closed.

        Args:
            connection: it.
            exchange: what it had not answered.
            idle_before: whether it had answered others, and this not at all. A server may close an idle connection
                just when a request is sent on it; any client sends such a request once more.
        """
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if exchange is not None and idle_before and not exchange.sent_again and not self._closed:
            exchange.sent_again = True
            self.submit(exchange)
        elif exchange is not None:
            exchange.answered(LOST)
        if self._waiting:
            self.submit(self._waiting.popleft())

    async def _connect(self, exchange: Exchange) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), *self._address
            )
        except OSError:
            exchange.answered(LOST)
            return
        except asyncio.CancelledError:  # the pool was closed
            exchange.answered(LOST)
            raise
        self._open.add(connection)
        connection.send(exchange)
