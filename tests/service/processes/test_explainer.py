"""The explainer's process: for how long one explanation may take before the process is taken for hanging."""

import socket
import threading
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from manet.explain.result import Explanation
from manet.labels import Expression
from manet.recognizer import FaceInput
from service.processes.explainer import LONGEST, ExplanationServer
from service.processes.memory import Layout, SharedMemory
from service.processes.spec import Loaders, Spec
from service.settings import Settings
from testing.fakes import WEIGHTS
from testing.front_ends import backend, detector, weights
from testing.live import until

FACE = FaceInput(None, np.zeros((8, 8, 3), np.uint8))


class HeldExplainer:
    """Fails on each face, once it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = threading.Semaphore(0)

    def explain(self, face: FaceInput, expression: Expression | None = None) -> Explanation:
        self.begun += 1
        assert self.gate.acquire(timeout=20)
        raise ValueError("no face")


@pytest.fixture
def explainer() -> HeldExplainer:
    return HeldExplainer()


@pytest.fixture
def server(explainer: HeldExplainer, tmp_path: Path) -> ExplanationServer:
    load = Loaders(weights, partial(backend, folder=tmp_path), detector, explainer=lambda *_: explainer)
    memory = SharedMemory.create(Layout(1, 1, 8, 3))
    return ExplanationServer(Spec(settings=Settings(), weights=WEIGHTS, load=load, memory=memory, secret=b""))


@pytest.fixture
def front_end(server: ExplanationServer) -> Iterator[Connection]:
    own, other = socket.socketpair()
    serving = threading.Thread(target=server.serve, args=(other,))
    serving.start()
    with Connection(own.detach()) as connection:
        yield connection
    serving.join(20)


def test_it_hangs_when_one_explanation_takes_too_long_and_not_when_many_take_long_together(
    server: ExplanationServer, explainer: HeldExplainer, front_end: Connection
) -> None:
    assert server.look(2 * LONGEST), "nothing is explained"
    for number in (1, 2):
        front_end.send((FACE, None))
        until(lambda: explainer.begun == number)  # noqa: B023
        assert [server.look(LONGEST) for _ in range(3)] == [True, True, False]
        explainer.gate.release()
        assert isinstance(front_end.recv(), ValueError)
    assert server.look(LONGEST)
