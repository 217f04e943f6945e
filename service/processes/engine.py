"""Engine process: takes the faces of all front ends, has the scheduler batch them, and returns their logits."""

import asyncio
import json
import logging
import os
import socket
from functools import partial

import uvloop

from manet.backends.base import Backend
from manet.errors import ManetError
from service.batching.errors import BatchingError, EngineUnavailableError
from service.batching.scheduler import BatchObserver, InferenceResult, Scheduler
from service.clock import Clock, SystemClock
from service.inference.batched_faces import BatchedFaceNetwork
from service.inference.engine import make_scheduler
from service.processes.channel import ANSWERED, LEFT, Channel, Request, Result
from service.processes.detection import DetectionServer
from service.processes.memory import BUCKETS, ENGINE_BEATS, SharedMemory
from service.processes.metrics import shared_metrics
from service.processes.spec import ENGINE, READY, Spec, receive
from service.runtime import tune_memory

_log = logging.getLogger("manet.engine")

BEAT = 0.2
"""Seconds between two reports to the front ends, besides those after each batch."""


class EngineServer:
    """Serves the groups of every front end, and reports how the engine does; it observes the scheduler.

    Args:
        memory: that of all processes.
        observer: is notified of every batch, too.
        clock: the time.
    """

    def __init__(self, memory: SharedMemory, observer: BatchObserver, clock: Clock) -> None:
        self._memory = memory
        self._observer = observer
        self._clock = clock
        self._pixels, self._logits = list(memory.pixels), list(memory.logits)  # of each front end
        self._scheduler: Scheduler | None = None
        self._channels: dict[int, Channel] = {}
        self._serving: dict[tuple[int, int], asyncio.Task[Result]] = {}

    @property
    def connected(self) -> bool:
        """Whether there is a front end."""
        return bool(self._channels)

    def serve(self, scheduler: Scheduler) -> None:
        """Hand faces to this scheduler, which was started."""
        self._scheduler = scheduler
        self._publish_times()
        self.publish()

    def connect(self, front_end: int, end: socket.socket) -> None:
        """Serve a front end; one of that number that was here before has ended."""
        if (before := self._channels.pop(front_end, None)) is not None:
            before.close()
            self._withdraw(front_end)
        self._channels[front_end] = Channel(end, partial(self._take, front_end), partial(self._lose, front_end))

    def publish(self) -> None:
        """Report to the front ends."""
        if (scheduler := self._scheduler) is None:
            return
        running = scheduler.running
        self._memory.report(
            alive_until=scheduler.health.alive_until if scheduler.alive else float("-inf"),
            running=running.size if running else 0,
            started=running.started if running else 0.0,
            depth=scheduler.depth,
        )

    def _publish_times(self) -> None:
        assert self._scheduler is not None
        for size, seconds in self._scheduler.times.known().items():
            self._memory.times[min(size.bit_length() - 1, BUCKETS - 1)] = seconds

    # -- what the scheduler tells

    def waited(self, seconds: float) -> None:
        """An item left the queue for the engine after so long."""
        self._observer.waited(seconds)

    def completed(self, size: int, seconds: float) -> None:
        """A batch came back."""
        self._observer.completed(size, seconds)
        self._memory.report(completed=self._memory.engine("completed") + 1)
        self._publish_times()
        self.publish()

    def failed(self) -> None:
        """A batch failed; whether the engine is to blame is known right after."""
        self._observer.failed()
        asyncio.get_running_loop().call_soon(self.publish)

    # -- what the front ends send

    def _take(self, front_end: int, packet: bytes) -> None:
        for request in Request.unpack(packet):
            key = front_end, request.group
            if request.slots:
                task = self._serving[key] = asyncio.create_task(self._serve(front_end, request))
                task.add_done_callback(partial(self._answer, key))
            elif (left := self._serving.get(key)) is not None:
                left.cancel()
        self.publish()

    async def _serve(self, front_end: int, request: Request) -> Result:
        assert self._scheduler is not None
        pixels, logits = self._pixels[front_end], self._logits[front_end]
        began = self._clock.now()
        found: InferenceResult = await self._scheduler.submit(
            [pixels[slot] for slot in request.slots], deadline=request.deadline, lane=(front_end, request.lane)
        )
        for slot, row in zip(request.slots, found.logits, strict=True):
            logits[slot] = row
        started = began + found.queued
        return Result(request.group, ANSWERED, started, started + found.inferred, found.batch)

    def _answer(self, key: tuple[int, int], task: asyncio.Task[Result]) -> None:
        """Tell a front end what became of a group; it may have been cancelled before it began."""
        front_end, group = key
        if self._serving.get(key) is not task:
            return  # of a front end that has ended
        del self._serving[key]
        if task.cancelled():
            result = Result(group, LEFT)
        elif (error := task.exception()) is None:
            result = task.result()
        elif isinstance(error, BatchingError):
            result = Result.of(group, error)
        else:
            _log.error("a group of faces failed; this is a defect of the service", exc_info=error)
            result = Result.of(group, EngineUnavailableError("this is a defect of the service"))
        self._channels[front_end].put(result.pack())

    def _lose(self, front_end: int) -> None:
        del self._channels[front_end]
        self._withdraw(front_end)

    def _withdraw(self, front_end: int) -> None:
        """Take everything out of the queue that a front end had handed in before it ended."""
        for key in [key for key in self._serving if key[0] == front_end]:
            self._serving.pop(key).cancel()


async def _run(spec: Spec, backend: Backend, faces: BatchedFaceNetwork | None, control: socket.socket) -> int:
    """Serve until the supervisor closes the control socket and all front ends have ended; return the exit status."""
    clock, loop, ending = SystemClock(), asyncio.get_running_loop(), asyncio.Event()
    memory = spec.memory
    served = EngineServer(memory, shared_metrics(memory, memory.layout.front_ends), clock)
    scheduler = make_scheduler(spec.settings, spec.weights, backend, clock=clock, observer=served, reload=None)
    await scheduler.start()
    served.serve(scheduler)
    detection = None if faces is None else DetectionServer(memory, faces, timeout=spec.settings.engine_timeout)

    def take() -> None:
        message, ends = receive(control)
        if not message:
            loop.remove_reader(control)
            ending.set()
            return
        number = int(message.removeprefix(ENGINE))
        served.connect(number, ends[0])
        if detection is not None:
            detection.connect(number, ends[1])

    def lost() -> bool:
        return scheduler.dead or scheduler.health.broken or (detection is not None and detection.lost)

    facts = {name: getattr(backend, name) for name in ("name", "precision", "device", "reason")}
    control.send(READY + json.dumps(facts).encode())
    control.setblocking(False)
    loop.add_reader(control, take)
    tune_memory()
    while not lost() and not (ending.is_set() and not served.connected):
        memory.beats[ENGINE_BEATS] += 1
        served.publish()
        if detection is not None:
            detection.look(BEAT)
        await asyncio.sleep(BEAT)
    if detection is not None and detection.lost:
        _log.critical("face detection hangs, or fails on every image; another process takes its place")
    if lost():
        return 1
    await scheduler.stop()
    if faces is not None:
        faces.close()
    return 0


def run(spec: Spec, control: socket.socket) -> None:
    """Be the engine's process. It ends with status 1 when a network is lost: another process takes its place.

    Args:
        spec: what all processes have in common.
        control: to the supervisor.
    """
    settings, status = spec.settings, 1
    try:
        backend = spec.load.backend(settings)
        faces = None if spec.load.faces is None else spec.load.faces(settings)
        status = uvloop.run(_run(spec, backend, faces, control))
    except (ManetError, ValueError, OSError) as error:
        _log.critical("the network cannot be loaded: %s", error)
    except Exception:  # whatever a network raises in its first batches
        _log.critical("the engine's process failed", exc_info=True)
    logging.shutdown()
    os._exit(status)  # at once: a network that hangs in a thread would hold up an orderly end for ever
