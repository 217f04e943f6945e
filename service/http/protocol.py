"""Protocol: uvicorn's HTTP/1.1, with bounds for what one connection may take of the process.

Uvicorn reads the head of a request, whatever its size and however long it takes, before any of the application's code
runs, and so before any key is looked at. Here a head that is over a bound is refused while it is still being sent.
"""

import asyncio
import secrets
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NoReturn

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service import problems
from service.errors import (
    HeadTimedOutError,
    HeadTooLargeError,
    MalformedRequestError,
    RateLimitedError,
    ServiceError,
    TargetTooLongError,
)
from service.middleware.request_id import REQUEST_ID
from service.middleware.security_headers import ALWAYS
from service.middleware.timing import RequestObserver

_FRAMING = (b"content-length", b"transfer-encoding")
"""Fields that tell where a body ends."""

_AROUND = len(b": \r\n")
"""Bytes of a header field beside its name and its value."""


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """What one connection may take.

    Attributes:
        max_head_bytes: of the request's target and its fields together, trailers after the body among them.
        max_target_bytes: bytes of the target alone; RFC 9110, section 4.1, recommends 8000 at least.
        max_head_fields: the fields of a head, in number.
        head_timeout: seconds in which a head must be whole. A connection that has nothing in flight, and on which no
            head begins, is closed after as many.
        linger: seconds in which what was refused may still come, and is thrown away, so that its sender gets to read
            the answer: a connection that is closed at once takes the answer with it (RFC 9112, section 9.6).
        max_pipelined_requests: that wait on one connection for those before them; with more, it is closed after these.
        send_timeout: seconds in which some of an answer must be taken, or the connection is cut.
    """

    max_head_bytes: int = 32 * 1024
    max_target_bytes: int = 8 * 1024
    max_head_fields: int = 100
    head_timeout: float = 10.0
    linger: float = 2.0
    max_pipelined_requests: int = 100
    send_timeout: float = 60.0


def bounded(observer: RequestObserver, bounds: ConnectionBounds) -> type[asyncio.Protocol]:
    """Return uvicorn's setting ``http``: what it makes a connection's protocol with.

    Args:
        observer: is notified of every head that is refused, as of a request to no route.
        bounds: of every connection.
    """
    made = partial(BoundedProtocol, observer=observer, bounds=bounds)
    return made  # type: ignore[return-value]  # no class, but uvicorn does nothing with it but call it


class BoundedProtocol(HttpToolsProtocol):
    """One connection, from its first byte to its last, or to the handshake of a websocket.

    The parser holds back a field until it is whole, so bytes are counted on their way in: all those that have come
    since a head, a piece of a body or a whole message last came out. What came out is counted when a head is whole, and
    when it is not after all that could be read at once (256 KiB at most).

    A head that has begun and is late is answered with 408. A connection on which nothing has begun is closed without a
    word, as browsers open connections that they may never use, and would take a 408 for the answer to their first
    request. So is one whose request was answered before its body had come, as a second answer would be another's.

    An upgrade that is offered and not taken is ignored, and the body belongs to its request (RFC 9110, section 7.8).
    The parser takes all that follows such a head for another protocol, so another parser reads on from there.

    Args:
        observer: is notified of every head that is refused.
        bounds: of this connection.
        given: what uvicorn gives every protocol.
    """

    def __init__(self, *, observer: RequestObserver, bounds: ConnectionBounds, **given: Any) -> None:
        super().__init__(**given)
        self.url = b""  # as before every request; uvicorn has none before the first
        self._observer = observer
        self._bounds = bounds
        self._unfinished = 0  # bytes that nothing has come of yet
        self._fields = 0  # how many the head had, without trailers
        self._in_head = False
        self._since = 0.0  # when a head began, or the last request was answered
        self._fault: ServiceError | None = None
        self._refused = False
        self._framing = False  # while another parser is given the framing of a body
        self._running: RequestResponseCycle | None = None
        self._untaken = 0, 0.0  # bytes of answers, and ``_since``, when it was last looked

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch = self.loop.call_later(self._bounds.head_timeout, self._check_timeouts)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, for whichever request is in flight; uvicorn knows the one that came last."""
        self._watch.cancel()
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to another protocol."""
        self._watch.cancel()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._refused:
            return
        self._unfinished += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            if self._was_last:
                self._refused = True  # nothing is read behind it (RFC 9112, section 9.6)
            else:
                self.send_400_response("")
        except httptools.HttpParserUpgrade:
            self.handle_websocket_upgrade()
        if self._unfinished and not self._refused and (fault := self._excess(self._unfinished)):
            self._refuse(fault)

    def _feed(self, data: bytes) -> None:
        """Give bytes to the parser.

        Raises:
            HttpParserError: if they are no HTTP, or something is over a bound.
            HttpParserUpgrade: if a request begins a websocket.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            if self._should_upgrade():
                raise
            self.parser = httptools.HttpRequestParser(self)
            self._framing = True
            framing = [b"%b: %b\r\n" % field for field in self.headers if field[0] in _FRAMING]
            self.parser.feed_data(b"".join((b"POST / HTTP/1.1\r\n", *framing, b"\r\n")))
            self._framing = False
            self._feed(data[stopped.args[0] :])

    def on_message_begin(self) -> None:
        """Begin a head."""
        if self._framing:
            return
        super().on_message_begin()
        self._in_head = True
        self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        if not self._framing:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        if not self._framing:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Take a whole head: a request begins."""
        if self._framing:
            return
        if fault := self._excess():
            self._stop(fault)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop(MalformedRequestError("this is no proxy: CONNECT is not taken"))
            if self._should_upgrade() and any(name in _FRAMING for name, _ in self.headers):
                self._stop(MalformedRequestError("the handshake of a websocket has no body"))
            if self._should_upgrade() and (self._working or self.pipeline):  # its bytes would overtake their answers
                self._stop(MalformedRequestError("the handshake of a websocket waits for no other request"))
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts != 1 and (hosts > 1 or self.parser.get_http_version() != "1.0"):
            self._stop(MalformedRequestError("a request names its host once"))  # RFC 9112, section 3.2
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            self._stop(MalformedRequestError("no transfer coding but chunked is read"))
        if len(self.pipeline) >= self._bounds.max_pipelined_requests:
            self._stop(RateLimitedError("too many requests wait on one connection"))
        self._unfinished = 0
        self._in_head = False
        self._fields = len(self.headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request; not the parser's, which sees no body behind an upgrade that is offered."""
        if self.parser.should_upgrade() and not self._should_upgrade():
            return
        if len(self.headers) > self._fields and (fault := self._excess()):
            self._stop(fault)
        self._unfinished = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        self._since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser stopped at: something over a bound, or no HTTP at all."""
        self._refuse(self._fault or MalformedRequestError("this is no HTTP/1.1 request"))

    @property
    def _working(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _was_last(self) -> bool:
        """Whether the last whole request said that no other follows it, and none has begun."""
        last = self.cycle
        return last is not None and not (last.keep_alive or last.more_body or self._in_head)

    def _excess(self, unfinished: int = 0) -> ServiceError | None:
        """Return what there is too much of, if anything, in what came out and what is still to."""
        bounds = self._bounds
        if self._in_head and len(self.url) > bounds.max_target_bytes:
            return TargetTooLongError(f"the target of the request has more than {bounds.max_target_bytes} bytes")
        fields = self.headers or ()
        if len(fields) <= bounds.max_head_fields and unfinished <= bounds.max_head_bytes:
            size = len(self.url) + sum(map(len, chain.from_iterable(fields))) + _AROUND * len(fields)
            if size <= bounds.max_head_bytes:
                return None
        return HeadTooLargeError(
            f"the head has more than {bounds.max_head_bytes} bytes or {bounds.max_head_fields} fields"
        )

    def _stop(self, fault: ServiceError) -> NoReturn:
        """Make the parser stop: uvicorn then has the request refused.

        Raises:
            ServiceError: the fault, to the parser.
        """
        self._fault = fault
        raise fault

    def _check_timeouts(self) -> None:
        """See whether the client is late, and when to look again."""
        left = self._bounds.head_timeout
        if not self._working:
            left += self._since - self.loop.time()
        if untaken := self.transport.get_write_buffer_size():
            self._wait_for_taking(untaken)
        elif self._refused or self.transport.is_closing():
            self.transport.close()
        elif left > 0:
            self._watch = self.loop.call_later(left, self._check_timeouts)
        elif self._in_head:
            self._refuse(HeadTimedOutError(f"the head did not arrive within {self._bounds.head_timeout:g} seconds"))
        else:
            self.transport.close()

    def _wait_for_taking(self, untaken: int) -> None:
        """Cut the connection if nothing of its answers was taken since the last look, closed though it may be."""
        state = untaken, self._since  # of two answers of one length, the second is progress
        if state == self._untaken:
            self.transport.abort()
            return
        self._untaken = state
        self._watch = self.loop.call_later(self._bounds.send_timeout, self._check_timeouts)

    def _refuse(self, error: ServiceError) -> None:
        """Read nothing more, and answer if it is this request's turn: no answer may stand where another's belongs."""
        self._refused = True
        if self._in_head and not self._working:
            self._observer.answered("other", error.status, self.loop.time() - self._since)
            self._answer(error)
        elif self._in_head:
            self.cycle.keep_alive = False  # it ends with the answer to the request before, and says nothing to this one
        elif self._working and not self.pipeline and not self.cycle.response_started:
            self.cycle.disconnected = True  # to what reads the rest of its body
            self.cycle.message_event.set()
            self._answer(error)
        else:
            self.transport.close()

    def _answer(self, error: ServiceError) -> None:
        """Write the answer, and linger."""
        fields = {**ALWAYS, REQUEST_ID: secrets.token_hex(8), "Connection": "close"}
        response = problems.answer(error, self.url.decode("latin-1"), fields)
        raw = [*self.server_state.default_headers, *response.raw_headers]
        lines = [STATUS_LINE[error.status], *(b"%b: %b\r\n" % field for field in raw), b"\r\n"]
        self.transport.write(b"".join([*lines, response.body]))
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._watch.cancel()
        self._watch = self.loop.call_later(self._bounds.linger, self._check_timeouts)
