"""Listener: the sockets on which clients connect; each connection is handed to someone."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

_log = logging.getLogger("manet.listener")

BACKLOG = 2048
"""Connections that wait to be accepted."""

_AT_ONCE = 64
"""Connections that are accepted before the loop goes round."""

_PAUSE = 0.01
"""Seconds until a connection that no one took is offered again."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to every address of a host; on ``::`` to those of IPv4, too.

    Args:
        host: a name or an address.
        port: 0 takes a free one, the same on all.

    Raises:
        OSError: if there is no such address, or it is taken.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
    if host == "::":
        addresses.append((socket.AF_INET, "0.0.0.0"))
    bound: list[socket.socket] = []
    with contextlib.ExitStack() as opened:
        for family, address in addresses:
            listening = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((address, port))
            listening.setblocking(False)
            port = listening.getsockname()[1]
            bound.append(listening)
        opened.pop_all()  # all are bound, and stay open
    return bound


class Listener:
    """Accepts connections and hands them over. While no one takes one, the others wait in the kernel.

    Args:
        sockets: bound.
        hand_over: passes a connection on; returns whether someone took it.
    """

    def __init__(self, sockets: list[socket.socket], hand_over: Callable[[socket.socket], bool]) -> None:
        self._sockets = sockets
        self._hand_over = hand_over
        self._waiting: socket.socket | None = None
        self._again: asyncio.TimerHandle | None = None
        self._open = False

    @property
    def address(self) -> str:
        """Where it listens first, as a URL."""
        host, port = self._sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def open(self) -> None:
        """Begin to accept; once is enough."""
        if not self._open:
            self._open = True
            for listening in self._sockets:
                listening.listen(BACKLOG)
            self._resume()

    def close(self) -> None:
        """Accept no more."""
        self._pause()
        if self._again is not None:
            self._again.cancel()
        for found in [*self._sockets, *([] if self._waiting is None else [self._waiting])]:
            found.close()

    def _resume(self) -> None:
        if self._waiting is not None and not self._pass_on(self._waiting):
            self._again = asyncio.get_running_loop().call_later(_PAUSE, self._resume)
            return
        self._waiting = None
        for listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _pause(self) -> None:
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # such as too many open files
                _log.error("no connection can be accepted: %s", error)
                self._wait()
                return
            if not self._pass_on(connection):
                self._waiting = connection
                self._wait()
                return

    def _wait(self) -> None:
        self._pause()
        self._again = asyncio.get_running_loop().call_later(_PAUSE, self._resume)

    def _pass_on(self, connection: socket.socket) -> bool:
        taken = self._hand_over(connection)
        if taken:
            connection.close()  # the other process has its own descriptor
        return taken
