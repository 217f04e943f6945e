"""Supervisor: starts the engine's process and the front ends, hands them connections, restarts them, and ends them.

It has no web framework and no network of its own: what it does not do cannot go wrong in it.
"""

import asyncio
import logging
import logging.config
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from typing import ClassVar, NoReturn

from manet.cpus import available_cpus
from service.batching.supervisor import EngineSupervisor
from service.inference.engine import detects_on_device, load_detector, load_faces, load_network, load_weights
from service.inference.explainer import NEEDED
from service.observability.log_filters import logging_config
from service.processes.channel import MOST_SLOTS, pair
from service.processes.children import Child, Pauses, end_after_parent
from service.processes.listener import Listener, bind
from service.processes.memory import ENGINE_BEATS, EXPLAINER_BEATS, Layout, SharedMemory
from service.processes.spec import CONNECTION, ENGINE, EXPLAINER, MOST_SOCKETS, Loaders, Spec
from service.runtime import tune_threads
from service.settings import Settings

_log = logging.getLogger("manet.supervisor")

_MOST_WORKERS = 8
"""Workers of a front end, at most, where the settings do not say how many."""


def loaders(settings: Settings) -> Loaders:
    """Return what a service loads; faces are found in the engine's process where the network is on a CUDA device.

    Args:
        settings: name the weights, the engine and where it runs.

    Raises:
        ManetError: if the weights are unknown or not installed.
        ValueError: if the engine, precision or device requested is not to be had.
    """
    faces = load_faces if detects_on_device(settings) else None
    return Loaders(weights=load_weights, backend=load_network, detector=load_detector, faces=faces)


CLOSING = 10.0
"""Seconds that a process gets to end, after its requests were answered or given up."""


def be(module: str, spec: Spec, control: socket.socket, *number: int) -> None:
    """Be the process that a module of this package runs; what it loads, FastAPI say, is not in the supervisor."""
    # A terminal sends its signals to all processes. Only the supervisor heeds them, and says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.config.dictConfig(logging_config(spec.settings.log_level, spec.settings.access_log))
    end_after_parent(spec.settings.shutdown_timeout + CLOSING)
    tune_threads()
    import_module(f"service.processes.{module}").run(spec, control, *number)


def _explains(settings: Settings) -> bool:
    return settings.explain and all(find_spec(name) is not None for name in NEEDED)


def default_workers(cpus: int, front_ends: int, *, wait: bool) -> int:
    """Return the workers of a front end where the settings do not say how many.

    Args:
        cpus: that all front ends may use together.
        front_ends: how many there are.
        wait: whether workers wait for faces that are found in the engine's process; another can decode meanwhile.
    """
    return min(_MOST_WORKERS, max(1, cpus // front_ends) * (2 if wait else 1))


class Supervisor:
    """One service of several processes, from its start to its end.

    Args:
        spec: what all processes have in common.
        sockets: bound, to listen on.
    """

    STARTING: ClassVar[float] = EngineSupervisor.BUILDING
    """Seconds in which a process must be up."""
    LASTING: ClassVar[float] = 60.0
    """Seconds after which a process that ends is started again at once."""
    LEAST_LOOK: ClassVar[float] = 5.0
    """Seconds between two looks at the processes, at least: with less, one that has much to do would seem to hang."""

    def __init__(self, spec: Spec, sockets: list[socket.socket]) -> None:
        self._spec = spec
        self._memory = spec.memory
        self._count = spec.memory.layout.front_ends
        self._listener = Listener(sockets, self._hand_over)
        self._stop, self._force = asyncio.Event(), asyncio.Event()
        self._engine: Child | None = None  # once it is up
        self._engine_up = asyncio.Event()
        self._facts = b""
        self._explainer: Child | None = None  # once it is up
        self._started: dict[int, Child] = {}  # front ends, up or not yet
        self._up: dict[int, Child] = {}  # front ends that take connections
        self._handed = [0] * self._count
        self._last = -1
        self._children: set[Child] = set()

    async def run(self) -> int:
        """Run until a signal comes, and return 0, or until the service can never answer again, and return 1."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        keepers = [
            loop.create_task(self._keep_engine()),
            *(loop.create_task(self._keep_front_end(number)) for number in range(self._count)),
            loop.create_task(self._watch()),
            *([loop.create_task(self._keep_explainer())] if _explains(self._spec.settings) else []),
        ]
        stopping = loop.create_task(self._stop.wait())
        await asyncio.wait([*keepers, stopping], return_when=asyncio.FIRST_COMPLETED)
        lost = not stopping.done()
        for task in (*keepers, stopping):
            task.cancel()
        for outcome in await asyncio.gather(*keepers, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.critical("the supervisor failed", exc_info=outcome)
        await self._end_all()
        return 1 if lost else 0

    def _signalled(self) -> None:
        """Stop; a second signal does not wait."""
        if self._stop.is_set():
            self._force.set()
        self._stop.set()

    # -- the engine's process

    async def _keep_engine(self) -> None:
        """Keep an engine's process running; return when that is to be the end."""
        pauses = Pauses()
        while True:
            completed, began = self._memory.engine("completed"), asyncio.get_running_loop().time()
            child = await self._begin("engine", "engine")
            facts = await child.ready(self.STARTING)
            if facts is not None:
                self._engine_is_up(child, facts)
                await child.ended.wait()
            await self._lost(child)
            self._engine_is_down()
            if not self._facts or self._spec.settings.on_engine_failure == "exit":
                return
            lasted = asyncio.get_running_loop().time() - began > self.LASTING
            pause = pauses.next(lasted or self._memory.engine("completed") > completed)
            if pauses.failures > pauses.recovery.attempts:
                _log.critical("the engine's process ended %d times in succession", pauses.failures)
                return
            await asyncio.sleep(pause)
            self._memory.restarts[0] += 1

    def _engine_is_up(self, child: Child, facts: bytes) -> None:
        if self._facts and facts != self._facts:
            _log.warning("the engine's process came back with another backend; the front ends are started again")
            for front_end in self._started.values():
                front_end.abort()
        self._engine, self._facts = child, facts
        for number, front_end in self._started.items():
            self._connect(number, front_end)
        self._engine_up.set()

    def _engine_is_down(self) -> None:
        self._engine = None
        self._engine_up.clear()
        self._memory.report(alive_until=float("-inf"), running=0, depth=0)

    def _connect(self, number: int, front_end: Child) -> None:
        """Connect a front end and the engine's process by new pairs of sockets: for faces, and maybe for canvases."""
        if self._engine is not None:
            pairs = [pair] * (1 if self._spec.load.faces is None else MOST_SOCKETS)
            self._introduce(pairs, (self._engine, ENGINE + str(number).encode()), (front_end, ENGINE + self._facts))

    # -- the explainer's process

    async def _keep_explainer(self) -> NoReturn:
        """Keep an explainer's process running."""
        pauses = Pauses()
        while True:
            began = asyncio.get_running_loop().time()
            child = await self._begin("explainer", "explainer")
            if await child.ready(self.STARTING) is not None:
                self._explainer = child
                for front_end in self._started.values():
                    self._connect_explainer(front_end)
                await child.ended.wait()
            self._explainer = None
            await self._lost(child)
            await asyncio.sleep(pauses.next(asyncio.get_running_loop().time() - began > self.LASTING))

    def _connect_explainer(self, front_end: Child) -> None:
        if self._explainer is not None:
            self._introduce([socket.socketpair], (self._explainer, EXPLAINER), (front_end, EXPLAINER))

    # -- the front ends

    async def _keep_front_end(self, number: int) -> None:
        """Keep a front end running; return if it never came up."""
        pauses, once_up = Pauses(), False
        while True:
            began = asyncio.get_running_loop().time()
            child = await self._begin(f"front end {number}", "front_end", number)
            self._started[number] = child
            self._connect(number, child)
            self._connect_explainer(child)
            await self._engine_up.wait()
            if await child.ready(self.STARTING) is not None:
                once_up = True
                self._front_end_is_up(number, child)
                await child.ended.wait()
            self._up.pop(number, None)
            del self._started[number]
            await self._lost(child)
            self._memory.forget(number)
            if not once_up:
                return
            await asyncio.sleep(pauses.next(asyncio.get_running_loop().time() - began > self.LASTING))

    def _front_end_is_up(self, number: int, child: Child) -> None:
        self._handed[number] = 0
        self._up[number] = child
        _log.info("front end %d is up: process %d", number, child.pid)
        self._listener.open()
        if len(self._up) == self._count:
            _log.info("running on %s, %d front ends (press CTRL+C to quit)", self._listener.address, self._count)

    def _hand_over(self, connection: socket.socket) -> bool:
        """Give a connection to the front end that has the fewest, those that are on their way to it among them."""
        gone = self._memory.counts["gone"]

        def load(number: int) -> tuple[int, int]:
            """Return its connections, and of equals how long ago it was given one."""
            return self._handed[number] - gone[number], (number - self._last - 1) % self._count

        for number in sorted(self._up, key=load):
            if self._up[number].tell(CONNECTION, connection):
                self._handed[number] += 1
                self._last = number
                return True
        return False

    # -- all processes

    async def _begin(self, name: str, module: str, *number: int) -> Child:
        """Start a process, as soon as the system has room for one; until then the others go on."""
        pauses = Pauses()
        while True:
            try:
                child = Child(name, be, (module, self._spec), number)
            except OSError as error:
                _log.error("%s cannot be started: %s", name, error)
                await asyncio.sleep(pauses.next(lasted=False))
            else:
                _log.info("%s: process %d", name, child.pid)
                self._children.add(child)
                return child

    def _introduce(
        self,
        pairs: Sequence[Callable[[], tuple[socket.socket, socket.socket]]],
        *sides: tuple[Child, bytes],
    ) -> None:
        """Connect two processes by new pairs of sockets, made by ``pairs``, with a message to each.

        One that cannot be given its sockets could answer nothing: it is ended, and its keeper starts another.
        """
        with ExitStack() as ends:
            try:
                made = [tuple(ends.enter_context(end) for end in new()) for new in pairs]
            except OSError as error:
                _log.error("no sockets for %s and %s: %s", sides[0][0].name, sides[1][0].name, error)
                sides[1][0].abort()
                return
            for (child, message), own in zip(sides, zip(*made, strict=True), strict=True):
                if not child.tell(message, *own):
                    child.abort()

    async def _lost(self, child: Child) -> None:
        await child.kill()
        self._children.discard(child)
        _log.error("%s (process %d) ended with status %s", child.name, child.pid, child.status)

    async def _watch(self) -> None:
        """Kill processes that hang: at two looks in succession, lest this one was frozen with them."""
        beats: dict[Child, int] = {}
        still: set[Child] = set()
        while True:
            await asyncio.sleep(max(self.LEAST_LOOK, self._spec.settings.engine_timeout / 2))
            places = {**self._up, ENGINE_BEATS: self._engine, EXPLAINER_BEATS: self._explainer}
            now = {child: self._memory.beats[place] for place, child in places.items() if child is not None}
            silent = {child for child, count in now.items() if beats.get(child) == count}
            for child in silent & still:
                _log.critical("%s (process %d) hangs and is killed", child.name, child.pid)
                await child.kill()
            beats, still = now, silent

    async def _end_all(self) -> None:
        """Let the front ends finish what they admitted, then end the other processes, which they need for that."""
        self._listener.close()
        ends = asyncio.create_task(self._end_in_order())
        force = asyncio.create_task(self._force.wait())
        await asyncio.wait([ends, force], return_when=asyncio.FIRST_COMPLETED)
        for task in (ends, force):
            task.cancel()
        await asyncio.gather(ends, force, return_exceptions=True)
        for child in self._children:
            await child.kill()

    async def _end_in_order(self) -> None:
        front_ends = set(self._started.values())
        for group, seconds in (
            (front_ends, self._spec.settings.shutdown_timeout + CLOSING),
            (self._children - front_ends, CLOSING),
        ):
            for child in group:
                child.finish()
            await asyncio.gather(*(child.end(seconds) for child in group))


def supervise(settings: Settings, load: Loaders) -> NoReturn:
    """Serve with several front ends until a signal comes, and end the process.

    Its status is 0, or 1 if the service was lost or never came up.

    Args:
        settings: all choices.
        load: loads the parts.

    Raises:
        ManetError: if the weights are unknown or not installed.
        OSError: if the address cannot be listened on.
    """
    logging.config.dictConfig(logging_config(settings.log_level, settings.access_log))
    weights, count = load.weights(settings), settings.front_end_count
    side, classes = weights.preprocessing.input_size, len(weights.classes)
    # Besides the queue, one batch runs and one is prepared.
    slots = min(MOST_SLOTS, settings.max_queued_faces + 2 * settings.max_batch_size)
    workers = settings.workers or default_workers(available_cpus(), count, wait=load.faces is not None)
    spec = Spec(
        settings=settings.model_copy(update={"workers": workers}),
        weights=weights,
        load=load,
        memory=SharedMemory.create(Layout(count, slots, side, classes, 0 if load.faces is None else workers)),
        secret=secrets.token_bytes(16),
    )
    sockets = bind(settings.host, settings.port)
    status = 1
    try:
        status = asyncio.run(_run(spec, sockets))
    except Exception:  # a defect; without this process, the others end, too
        _log.critical("the supervisor failed", exc_info=True)
    logging.shutdown()
    os._exit(status)  # an orderly end would wait for processes that end when this one has


async def _run(spec: Spec, sockets: list[socket.socket]) -> int:
    return await Supervisor(spec, sockets).run()
