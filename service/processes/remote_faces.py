"""RemoteFaceNetwork: what a front end has in place of the detector's network: canvases go to the engine's process."""

import asyncio
import socket
import threading
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

from manet.vision.face_network import Candidates
from manet.vision.preprocess import Pixels
from service.concurrency import caller
from service.errors import NotReadyError
from service.processes.channel import FAILED, LOOK, SEEN, WITHDRAWN, Channel
from service.processes.memory import SharedMemory


class RemoteFaceNetwork:
    """Hands canvases to the engine's process; see ``manet.vision.face_network.FaceNetwork``.

    A caller waits for as long as the engine's process takes: one in which a batch hangs is ended, and then so is the
    wait. A slot is used again once that process has answered for it, or has ended.

    Args:
        memory: that of all processes.
        front_end: this one's number.

    Attributes:
        threads: canvases that are handed in at once; one more waits for one of them.
    """

    def __init__(self, memory: SharedMemory, front_end: int) -> None:
        self.threads = memory.layout.canvases
        self._memory = memory
        self._front_end = front_end
        self._idle: SimpleQueue[int] = SimpleQueue()  # slots
        for slot in range(self.threads):
            self._idle.put(slot)
        self._lock = threading.Lock()  # around what follows
        self._channel: Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the channel
        self._waiting: dict[int, Future[int]] = {}  # for the count of candidates, by slot

    def candidates(self, canvas: Pixels, least: float) -> Candidates:
        """Return what may be a face on a canvas, (height, width, 3), with a score of ``least`` or more.

        Raises:
            NotReadyError: if the engine's process has ended; another is being started.
            RuntimeError: if the network fails on the canvas.
            asyncio.CancelledError: if the caller, see ``service.concurrency.caller``, leaves before it was searched.
        """
        slot = self._idle.get()
        try:
            height, width = canvas.shape[:2]
            self._memory.canvas(self._front_end, slot, height, width)[:] = canvas
            count = self._ask(slot, LOOK.pack(slot, height, width, least)).result()
            if count == WITHDRAWN:
                raise asyncio.CancelledError
            if count == FAILED:
                raise RuntimeError("the network in the engine's process fails on this canvas")
            return self._memory.candidates(self._front_end, slot, count)
        finally:
            self._idle.put(slot)

    def connect(self, end: socket.socket) -> None:
        """Use a new engine process; the last one, if any, has ended. In the loop's thread, as all that follows."""
        self.close()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._channel = Channel(end, self._take, self._lose)

    def close(self) -> None:
        """Close the channel; who waits is refused, and so is who comes."""
        if self._channel is not None:
            self._channel.close()
            self._lose()

    def _ask(self, slot: int, look: bytes) -> Future[int]:
        """Hand a canvas in; in a worker's thread."""
        outcome: Future[int] = Future()
        with self._lock:
            if self._channel is None or self._loop is None:
                raise _unavailable()
            self._loop.call_soon_threadsafe(self._send, slot, look, outcome, caller())
            self._waiting[slot] = outcome
        return outcome

    def _send(self, slot: int, look: bytes, outcome: Future[int], waiting: asyncio.Future[Any] | None) -> None:
        if self._channel is not None and not outcome.done():
            self._channel.put(look)
            if waiting is not None:
                waiting.add_done_callback(partial(self._leave, slot, outcome))

    def _leave(self, slot: int, outcome: Future[int], _waiting: asyncio.Future[Any]) -> None:
        """Take a canvas back whose caller has left; its slot is free when the engine's process says so."""
        with self._lock:
            waits = self._waiting.get(slot) is outcome
        if self._channel is not None and waits:
            self._channel.put(LOOK.pack(slot, 0, 0, 0.0))

    def _take(self, packet: bytes) -> None:
        for slot, found in SEEN.iter_unpack(packet):
            with self._lock:
                outcome = self._waiting.pop(slot)
            outcome.set_result(found)

    def _lose(self) -> None:
        with self._lock:
            self._channel = None
            waiting, self._waiting = list(self._waiting.values()), {}
        for outcome in waiting:
            outcome.set_exception(_unavailable())


def _unavailable() -> NotReadyError:
    return NotReadyError("face detection is being started again")
