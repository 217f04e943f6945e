"""Limits: how much one client may ask for, whatever others do."""

import ipaddress
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.errors import RETRY_SECONDS, RateLimitedError
from service.keys import OWNER
from service.middleware.api_keys import CLIENT, is_open
from service.places import OwnPlaces, Places

if TYPE_CHECKING:
    from limits import RateLimitItem

FRAME_LIMITER = "manet.frame_limiter"
"""Where the scope of a websocket holds what each of its frames goes through."""

BUCKETS = 4096
"""Counters of addresses, at most: these are distinguished by a hash into so many, and two that meet in one share it."""


class RateWindow(Protocol):
    """Counts the requests of clients in a time: a sliding window approximated by two counters."""

    def hit(self, client: str) -> float | None:
        """Count a request and return None, or, if it is one too many, the seconds until another may come."""


class OwnWindow:
    """The window of a service that is one process.

    Args:
        rate: requests in a time.
    """

    def __init__(self, rate: "RateLimitItem") -> None:
        # Not above: a start waits for it, and most services set no limit.
        from limits.storage import MemoryStorage  # noqa: PLC0415
        from limits.strategies import SlidingWindowCounterRateLimiter  # noqa: PLC0415

        self._rate = rate
        self._window = SlidingWindowCounterRateLimiter(MemoryStorage())

    def hit(self, client: str) -> float | None:
        """Count a request and return None, or, if it is one too many, the seconds until another may come."""
        bucket = client if client.startswith(OWNER) else str(hash(client) % BUCKETS)
        if self._window.hit(self._rate, bucket):
            return None
        return self._window.get_window_stats(self._rate, bucket).reset_time - time.time()


class RateLimiter:
    """Counts each client's requests: how many in a time, and how many at once.

    Args:
        rate: requests in a time. None is no limit.
        at_once: requests in flight; None is no limit.
        window: counts them in time, and
        places: in flight; by default this process is the whole service.
    """

    def __init__(
        self,
        *,
        rate: "RateLimitItem | None",
        at_once: int | None,
        window: RateWindow | None = None,
        places: Places | None = None,
    ) -> None:
        self._rate = rate
        self._at_once = at_once
        self._window = OwnWindow(rate) if window is None and rate is not None else window
        self._places = OwnPlaces() if places is None else places

    @contextmanager
    def entering(self, client: str) -> Iterator[None]:
        """Hold a client's place while its request is in flight.

        Raises:
            RateLimitedError: if the client may not send this request now.
        """
        if not self._places.enter(client, most=None, most_each=self._at_once):
            raise RateLimitedError(f"{self._at_once} requests of this client are in flight", retry_after=RETRY_SECONDS)
        try:
            if self._window is not None and (left := self._window.hit(client)) is not None:
                retry = max(RETRY_SECONDS, math.ceil(left))
                raise RateLimitedError(f"a client may send {self._rate}", retry_after=retry)
            yield
        finally:
            self._places.leave(client)


class RateLimitMiddleware:
    """Sends every request but probes and pages through the limiter; refusals read no byte of the body.

    A websocket counts when it is opened, and then each frame of it counts as a request.
    """

    def __init__(self, app: ASGIApp, *, limiter: RateLimiter) -> None:
        self._app = app
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        limiter = partial(self._limiter.entering, client_of(scope))
        try:
            with limiter():
                if scope["type"] == "http":
                    await self._app(scope, receive, send)
                    return
        except RateLimitedError as error:
            await problems.refuse(error, scope, receive, send)
            return
        await self._app({**scope, FRAME_LIMITER: limiter}, receive, send)


def client_of(scope: Scope) -> str:
    """Return who sent a request: the name of its key, or its address, of IPv6 the network that one household has.

    Source: RFC 6177 and RIPE-690, by which an end site has a /64 at least, so that single addresses tell nothing.
    """
    if CLIENT in scope:
        return str(scope[CLIENT])
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return (
        host if isinstance(address, ipaddress.IPv4Address) else str(ipaddress.ip_network((address, 64), strict=False))
    )
