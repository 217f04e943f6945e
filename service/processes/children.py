"""Children: a process that the supervisor started, the socket to it, and how long to wait before another is started."""

import asyncio
import contextlib
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.batching.supervisor import Recovery
from service.processes.channel import pair
from service.processes.spec import MESSAGE, READY

_SPAWN = multiprocessing.get_context("spawn")
_RECOVERY = Recovery(pause=0.5)


class Child:
    """A process and its control socket, from its start to its end.

    Args:
        name: for the log.
        target: what it runs, with ``args`` and its own end of the socket.
        args: as it takes them first.
        more: as it takes them after the socket.

    Raises:
        OSError: if the system has no room for another process, or for its socket.
    """

    def __init__(self, name: str, target: Callable[..., None], args: tuple[Any, ...], more: tuple[Any, ...]) -> None:
        self.name = name
        self.control, theirs = pair()
        self.ended = asyncio.Event()
        self._process = _SPAWN.Process(target=target, args=(*args, theirs, *more), name=name, daemon=True)
        try:
            self._process.start()
        except OSError:
            self.control.close()
            raise
        finally:
            theirs.close()
        asyncio.get_running_loop().add_reader(self._process.sentinel, self._end)

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, or minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    def tell(self, message: bytes, *ends: socket.socket) -> bool:
        """Send it a message, and sockets with it; return whether it was taken."""
        try:
            socket.send_fds(self.control, [message], [end.fileno() for end in ends])
        except OSError:  # it is gone, as is seen elsewhere, or takes no more now
            return False
        return True

    async def ready(self, seconds: float) -> bytes | None:
        """Return what it says about itself once it is up; None if it ended or was not up in time."""
        said = asyncio.create_task(asyncio.get_running_loop().sock_recv(self.control, MESSAGE))
        gone = asyncio.create_task(self.ended.wait())
        try:
            await asyncio.wait([said, gone], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            message = said.result() if said.done() and said.exception() is None else b""
        finally:
            for task in (said, gone):
                task.cancel()
            await asyncio.wait([said, gone])
        return message.removeprefix(READY) if message.startswith(READY) else None

    def finish(self) -> None:
        """Tell it to finish what it has and end: it sees the end of the socket, after all messages."""
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_WR)

    async def end(self, seconds: float) -> None:
        """Wait for its end, and kill it after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        await self.kill()

    def abort(self) -> None:
        """Have it end at once."""
        self._process.kill()

    async def kill(self) -> None:
        """End it at once, if it has not ended, and close its socket."""
        self.abort()
        await self.ended.wait()
        self.control.close()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._process.join()
        self.ended.set()


def end_after_parent(seconds: float) -> None:
    """Have this process end so many seconds after the one that started it, if it has not ended itself by then.

    A thread sees to it, also where the event loop hangs; it needs the interpreter's lock.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, name="watch", daemon=True).start()


@dataclass
class Pauses:
    """How long to wait before a process that ended is started again: each time longer, unless it lasted.

    Attributes:
        recovery: the bounds; the second start in succession is the first that waits.
        failures: starts in succession that did not last.
    """

    recovery: Recovery = _RECOVERY
    failures: int = 0

    def next(self, lasted: bool) -> float:
        """Return the seconds to wait, after a process that lasted or did not."""
        self.failures = 0 if lasted else self.failures + 1
        return self.recovery.delay(max(0, self.failures - 1))
