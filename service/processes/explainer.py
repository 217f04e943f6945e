"""Explainer process: explains the faces of all front ends, one after the other.

It loads PyTorch for the first of them, not before.
"""

import itertools
import logging
import os
import socket
import threading
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from types import MappingProxyType
from typing import Any, NoReturn

from manet.explain.result import Explanation
from manet.labels import Expression
from manet.recognizer import FaceInput, Recognizer
from manet.vision.faces import DetectedFace
from manet.vision.preprocess import Pixels
from service.batching.supervisor import EngineSupervisor
from service.errors import NotReadyError
from service.inference.explainer import FaceExplainer
from service.processes.held import Held
from service.processes.memory import EXPLAINER_BEATS
from service.processes.spec import READY, RemoteBackend, Spec, receive

_log = logging.getLogger("manet.explainer")

LONGEST = EngineSupervisor.BUILDING
"""Seconds after which one explanation is taken for hanging; the first of a process loads the network, too."""

_BEAT = 0.5
"""Seconds between two signs of life."""

_ABSENT = RemoteBackend("none", "none", "none", "explanations have a network of their own")


class _NoDetector:
    """Refuses: front ends find the faces."""

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        raise RuntimeError("the detectors are in the front ends")


class RemoteExplainer:
    """What a front end has in place of an explainer. It is called in a worker, which waits for the other process."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    def connect(self, end: socket.socket) -> None:
        """Use a new process; the last one, if any, has ended, and what waits for it sees that."""
        end.setblocking(True)
        self._connection = Connection(end.detach())

    def explain(self, face: FaceInput, expression: Expression | None = None) -> Explanation:
        """Return what the network went by in a face; see ``manet.explain.attribution.Explainer.explain``.

        Raises:
            NotReadyError: if the process has ended; another is being started.
            Exception: whatever explaining it raised.
        """
        connection = self._connection
        try:
            if connection is None:
                raise EOFError
            connection.send((face, expression))
            outcome = connection.recv()
        except (EOFError, OSError):
            raise NotReadyError("explanations are being started again") from None
        if isinstance(outcome, Explanation):
            return outcome
        raise outcome


class ExplanationServer:
    """Loads the explainer, once, and serves front ends with it, each in a thread of its own.

    Args:
        spec: what all processes have in common.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._turn = threading.Lock()
        self._explainer: FaceExplainer | None = None
        self._numbers = itertools.count(1)
        self._running: int | None = None  # the number of the explanation that is being made
        self._held = Held()

    def look(self, seconds: float) -> bool:
        """Return, so many seconds after the last look, whether explanations come back."""
        self._held.look(self._running, seconds)
        return self._held.seconds <= LONGEST

    def serve(self, end: socket.socket) -> None:
        """Serve a front end until it ends."""
        end.setblocking(True)
        with Connection(end.detach()) as connection:
            while True:
                try:
                    face, expression = connection.recv()
                    connection.send(self._outcome(face, expression))
                except (EOFError, OSError):
                    return

    def _outcome(self, face: FaceInput, expression: Expression | None) -> Explanation | Exception:
        try:
            with self._turn:
                self._running = next(self._numbers)
                try:
                    return self._explain(face, expression)
                finally:
                    self._running = None
        except Exception as error:  # whatever it is, it belongs to the caller
            return error

    def _explain(self, face: FaceInput, expression: Expression | None) -> Explanation:
        if self._explainer is None:
            spec = self._spec
            recognizer = Recognizer(spec.weights, _ABSENT, _NoDetector())
            self._explainer = spec.load.explainer(recognizer, spec.settings.weights_dir)
        return self._explainer.explain(face, expression)


def _reduce(view: "MappingProxyType[Any, Any]") -> tuple[Any, ...]:
    return _view, (dict(view),)


def _view(mapping: dict[Any, Any]) -> "MappingProxyType[Any, Any]":
    return MappingProxyType(mapping)


def _die(error: threading.ExceptHookArgs) -> None:
    """End the process with a thread that ends by an error: front ends then see it, and another takes its place."""
    _log.critical("the explainer's process failed", exc_info=error.exc_value)
    logging.shutdown()
    os._exit(1)


def run(spec: Spec, control: socket.socket) -> NoReturn:
    """Be the explainer process, until the supervisor closes the control socket and no front end is left.

    Args:
        spec: what all processes have in common.
        control: to the supervisor.
    """
    ForkingPickler.register(MappingProxyType, _reduce)  # in which an answer has its probabilities
    threading.excepthook = _die
    server, threads = ExplanationServer(spec), list[threading.Thread]()
    control.settimeout(_BEAT)
    control.send(READY)
    while True:
        try:
            message, ends = receive(control)
        except TimeoutError:
            if server.look(_BEAT):  # the supervisor kills a process that gives no sign of life
                spec.memory.beats[EXPLAINER_BEATS] += 1
            continue
        if not message:
            break
        threads = [thread for thread in threads if thread.is_alive()]
        for end in ends:
            threads.append(threading.Thread(target=server.serve, args=(end,), daemon=True))
            threads[-1].start()
    for thread in threads:
        thread.join()
    logging.shutdown()
    os._exit(0)
