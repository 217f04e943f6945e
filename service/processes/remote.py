"""RemoteScheduler: what a front end has in place of the scheduler: its faces go to the engine's process."""

import asyncio
import itertools
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from manet.backends.base import Logits
from manet.vision.preprocess import Pixels
from service.batching.errors import EngineUnavailableError, QueueFullError
from service.batching.policy import BatchPolicy, BatchTimes, RunningBatch
from service.batching.scheduler import InferenceResult
from service.clock import Clock
from service.processes.channel import ANSWERED, Channel, Request, Result
from service.processes.memory import SharedMemory


@dataclass(slots=True, eq=False)
class _Group:
    """Faces that were handed in: their slots, and what their caller waits for: the outcome and the logits, (F, C)."""

    slots: list[int]
    result: asyncio.Future[tuple[Result, Logits]]


class RemoteTimes(BatchTimes):
    """Batch times as the engine's process reports them.

    Args:
        memory: that of all processes.
    """

    def __init__(self, memory: SharedMemory) -> None:
        super().__init__()
        self._times = memory.times

    def expect(self, size: int) -> float:
        """Return the seconds that a batch of ``size`` items should take; 0 before anything was measured."""
        known = enumerate(self._times)
        return min((seconds * -(-size >> bucket) for bucket, seconds in known if seconds), default=0.0)


class RemoteScheduler:
    """Hands faces to the engine's process and waits for their logits; what admission asks is in the shared memory.

    Made inside the event loop's thread, and used from there only.

    Args:
        memory: that of all processes.
        front_end: this one's number.
        policy: the engine's own.
        clock: the machine's, so that deadlines mean the same in all processes.
    """

    dead = False
    """The supervisor ends the service where no engine can be started."""
    abandoned = 0
    """An engine that hangs is killed with its process."""

    def __init__(self, memory: SharedMemory, front_end: int, *, policy: BatchPolicy, clock: Clock) -> None:
        self._memory = memory
        self._policy = policy
        self._clock = clock
        self._pixels, self._logits = memory.pixels[front_end], memory.logits[front_end]
        self._faces, self._own = memory.counts["faces"], front_end
        self._times = RemoteTimes(memory)
        self._free = list(range(memory.layout.slots))  # the last used are taken first, so that few pages are touched
        self._groups: dict[int, _Group] = {}
        self._numbers = itertools.count(1)
        self._channel: Channel | None = None

    @property
    def depth(self) -> int:
        """Faces of all front ends that wait, the batch in the engine left out."""
        return int(self._memory.engine("depth"))

    @property
    def rebuilt(self) -> int:
        """How often the engine's process was restarted."""
        return self._memory.restarts[0]

    @property
    def alive(self) -> bool:
        """Whether faces are taken and the engine has answered lately."""
        return self._channel is not None and self._clock.now() <= self._memory.engine("alive_until")

    @property
    def reason(self) -> str:
        """Why it is not alive, as one sentence for people."""
        return "the network is being started again" if self._channel is None else "the network does not answer"

    def expected_wait(self, ahead: int = 0) -> float:
        """Return the seconds in which an item handed in now should be answered, behind those of all front ends."""
        size = int(self._memory.engine("running"))
        running = RunningBatch(size, self._memory.engine("started")) if size else None
        waiting = max(0, sum(self._faces) - size)
        return self._policy.expected_wait(self._times, ahead=waiting + ahead, running=running, now=self._clock.now())

    async def submit(self, faces: Sequence[Pixels], *, deadline: float, lane: object = None) -> InferenceResult:
        """Return the logits of one image's faces; see ``service.batching.scheduler.Scheduler.submit``."""
        shape = self._pixels.shape[1:]
        if wrong := [pixels.shape for pixels in faces if pixels.shape != shape]:
            raise ValueError(f"a face has the shape {wrong[0]} instead of {shape}")
        if self._channel is None:
            raise EngineUnavailableError(self.reason)
        if not faces:  # a note without slots would mean something else
            return InferenceResult([], 0.0, 0.0, 0)
        if len(faces) > len(self._free):
            raise QueueFullError(f"{len(self._free)} slots of this front end are free; {len(faces)} were requested")
        now = self._clock.now()
        number = next(self._numbers)
        group = _Group([self._free.pop() for _ in faces], asyncio.get_running_loop().create_future())
        for slot, pixels in zip(group.slots, faces, strict=True):
            self._pixels[slot] = pixels
        self._faces[self._own] += len(faces)
        self._groups[number] = group
        self._channel.put(Request(number, number if lane is None else id(lane), deadline, group.slots).pack())
        try:
            result, logits = await group.result
        except asyncio.CancelledError:
            if number in self._groups and self._channel is not None:
                self._channel.put(Request(number, 0, 0.0, ()).pack())  # its slots are free when the engine says so
            raise
        if result.outcome != ANSWERED:
            raise result.error()
        return InferenceResult(list(logits), result.started - now, result.answered - result.started, result.batch)

    async def start(self) -> None:
        """Return at once: a process without an engine answers that it is not ready."""

    async def stop(self) -> None:
        """Close the channel; what still waits is refused."""
        if self._channel is not None:
            self._channel.close()
            self._lose()

    def connect(self, end: socket.socket) -> None:
        """Use a new engine process; the last one, if any, has ended."""
        if self._channel is not None:
            self._channel.close()
            self._lose()
        self._channel = Channel(end, self._take, self._lose)

    def _take(self, packet: bytes) -> None:
        for result in Result.unpack(packet):
            self._settle(self._groups.pop(result.group), result)

    def _lose(self) -> None:
        """Refuse what waits: the engine's process is gone, and no one else writes to its slots."""
        self._channel = None
        groups, self._groups = self._groups, {}
        for number, group in groups.items():
            self._settle(group, Result.of(number, EngineUnavailableError("the network's process ended")))

    def _settle(self, group: _Group, result: Result) -> None:
        if not group.result.done():  # a caller that was cancelled waits no more
            group.result.set_result((result, self._logits.take(group.slots, axis=0)))  # a copy
        self._free.extend(group.slots)
        self._faces[self._own] -= len(group.slots)
