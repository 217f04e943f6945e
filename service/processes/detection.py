"""DetectionServer: looks for faces on the canvases of all front ends, in the engine's process."""

import asyncio
import contextlib
import logging
import socket
from concurrent.futures import Future
from functools import partial

from manet.vision.face_network import Candidates
from service.inference.batched_faces import BatchedFaceNetwork
from service.processes.channel import FAILED, LOOK, SEEN, WITHDRAWN, Channel
from service.processes.held import Held
from service.processes.memory import SharedMemory

_log = logging.getLogger("manet.detection")


class DetectionServer:
    """Hands the canvases of every front end to the network, and the candidates back; used in the loop's thread only.

    Args:
        memory: that of all processes.
        network: batches the canvases.
        timeout: seconds after which a batch that has not come back is taken for hanging.
    """

    def __init__(self, memory: SharedMemory, network: BatchedFaceNetwork, *, timeout: float) -> None:
        self._memory = memory
        self._network = network
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._channels: dict[int, Channel] = {}
        self._looking: dict[tuple[int, int], Future[Candidates]] = {}  # by front end and slot
        self._held = Held()

    @property
    def lost(self) -> bool:
        """Whether the network fails on every canvas, or hangs: only a new process helps."""
        return self._network.failing or self._held.seconds > self._timeout

    def look(self, seconds: float) -> None:
        """See whether the network is still at the same batch, so many seconds after the last look."""
        self._held.look(self._network.running, seconds)

    def connect(self, front_end: int, end: socket.socket) -> None:
        """Serve a front end; one of that number that was here before has ended."""
        if (before := self._channels.pop(front_end, None)) is not None:
            before.close()
            self._withdraw(front_end)
        self._channels[front_end] = Channel(end, partial(self._take, front_end), partial(self._lose, front_end))

    def _take(self, front_end: int, packet: bytes) -> None:
        for slot, height, width, least in LOOK.iter_unpack(packet):
            if not height:  # it may have been answered meanwhile
                if (left := self._looking.get((front_end, slot))) is not None:
                    self._network.withdraw(left)
                continue
            canvas = self._memory.canvas(front_end, slot, height, width)
            try:
                outcome = self._network.submit(canvas, least)
            except RuntimeError:  # its thread has ended, and so does this process
                self._channels[front_end].put(SEEN.pack(slot, FAILED))
                continue
            self._looking[front_end, slot] = outcome
            outcome.add_done_callback(partial(self._found, (front_end, slot)))

    def _found(self, key: tuple[int, int], outcome: Future[Candidates]) -> None:
        """Have the loop answer; in the network's thread, or in the loop's where the canvas was withdrawn."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it went the front ends
            self._loop.call_soon_threadsafe(self._answer, key, outcome)

    def _answer(self, key: tuple[int, int], outcome: Future[Candidates]) -> None:
        if self._looking.get(key) is not outcome:
            return  # of a front end that has ended; its slots may be another's
        del self._looking[key]
        front_end, slot = key
        if outcome.cancelled():
            count = WITHDRAWN
        elif (error := outcome.exception()) is not None:
            _log.error("face detection failed on a canvas", exc_info=error)
            count = FAILED
        else:
            found = outcome.result()
            self._memory.put_candidates(front_end, slot, found)
            count = len(found.places)
        self._channels[front_end].put(SEEN.pack(slot, count))

    def _lose(self, front_end: int) -> None:
        del self._channels[front_end]
        self._withdraw(front_end)

    def _withdraw(self, front_end: int) -> None:
        """Take back all canvases that a front end had handed in before it ended."""
        for key in [key for key in self._looking if key[0] == front_end]:
            self._network.withdraw(self._looking.pop(key))
