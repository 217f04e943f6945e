"""Spec: what every process of one service is given at its start, and what is said over its control socket."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from manet.backends.base import Backend
from manet.recognizer import Recognizer
from manet.vision.faces import FaceDetector
from manet.vision.preprocess import Pixels
from manet.weights.entry import Weights
from service.inference.batched_faces import BatchedFaceNetwork
from service.inference.explainer import FaceExplainer, load_explainer
from service.processes.channel import give_up
from service.processes.memory import SharedMemory
from service.settings import Settings

READY, ENGINE, EXPLAINER, CONNECTION = b"ready", b"engine", b"explainer", b"connection"
"""The kinds of messages, one packet each, whose first word they are. To the supervisor: this process is up; that of the
engine then describes its backend. From the supervisor, each with a socket: to the engine's process, and its backend, or
to the front end of that number, with another socket for canvases where faces are found in the engine's process; to the
explainer's process, or to a front end; a client's connection. The end of the socket means: finish and end."""

MOST_SOCKETS = 2
"""Sockets that come with one."""

MESSAGE = 4096
"""Bytes of such a message, at most."""


def receive(control: socket.socket) -> tuple[bytes, list[socket.socket]]:
    """Return the supervisor's next message and the sockets that came with it; b"" if it stops, or is gone.

    A client's connection for which too many files are open is lost. So would be one to another process, without which
    this one could answer nothing: it ends.

    Raises:
        BlockingIOError: if there is no message now, and the socket does not block.
    """
    try:
        message, fds, flags, _ = socket.recv_fds(control, MESSAGE, MOST_SOCKETS)
    except ConnectionError:
        return b"", []
    if flags & socket.MSG_CTRUNC and message != CONNECTION:
        give_up("too many files are open for a connection to another process")
    return message, [socket.socket(fileno=fd) for fd in fds]


@dataclass(frozen=True, slots=True)
class Loaders:
    """What loads the parts, each in the process that needs it; functions of a module, so that they can be pickled.

    Attributes:
        weights: finds the entry of the weights.
        backend: loads the network.
        detector: loads the detector of a front end, warm.
        explainer: loads what explains a recognizer's weights, from this store.
        faces: loads the detector's network in the engine's process, warm; None where each front end has a detector.
    """

    weights: Callable[[Settings], Weights]
    backend: Callable[[Settings], Backend]
    detector: Callable[[Settings], FaceDetector]
    explainer: Callable[[Recognizer, Path | None], FaceExplainer] = load_explainer
    faces: Callable[[Settings], BatchedFaceNetwork] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What all processes have in common.

    Attributes:
        settings: all choices.
        weights: the entry of what is served.
        load: loads the parts.
        memory: shared by all.
        secret: of the service; see ``service.processes.usage.ClientHash``.
    """

    settings: Settings
    weights: Weights
    load: Loaders
    memory: SharedMemory
    secret: bytes


@dataclass(frozen=True, slots=True)
class RemoteBackend:
    """What a front end has in place of the backend: how the engine's process describes it.

    Attributes:
        name: see ``manet.backends.base.Backend``.
        precision: likewise.
        device: likewise.
        reason: likewise.
    """

    name: str
    precision: str
    device: str
    reason: str

    def warmup(self, batch_sizes: Sequence[int]) -> NoReturn:
        """Refuse: there is no network in this process."""
        raise RuntimeError("the network is in the engine's process")

    def infer(self, images: Pixels) -> NoReturn:
        """Refuse: there is no network in this process."""
        raise RuntimeError("the network is in the engine's process")

    def close(self) -> None:
        """Do nothing."""
