"""Bad connections: slow clients and clients that disconnect, at each stage; afterwards nothing is held for them."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest

from manet.recognizer import Recognizer
from manet.vision.faces import DetectedFace
from manet.vision.preprocess import Pixels
from service.app import create_app
from service.clock import SystemClock
from service.settings import Settings
from testing.fakes import RED_FACE, WEIGHTS, FakeBackend, FakeDetector
from testing.live import Live, live, until

FIELDS = {"/predict": "image", "/predict/batch": "images"}


class GatedDetector(FakeDetector):
    """Finds faces when a test lets it."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        self.entered.set()
        assert self.gate.wait(20), "an image was held and never let go"
        return super().detect(image, small_faces=small_faces)


class Rig:
    """A served application whose detector and network a test can hold."""

    def __init__(self, **settings: Any) -> None:
        self.detector, self.backend = GatedDetector(), FakeBackend()
        recognizer = Recognizer(WEIGHTS, self.backend, self.detector)
        self.app = create_app(Settings(**settings), recognizer, SystemClock())

    @contextlib.contextmanager
    def serving(self) -> Iterator[Live]:
        with live(self.app) as served:
            try:
                yield served
            finally:
                self.detector.gate.set()
                self.backend.gate.set()


def request(path: str) -> tuple[bytes, bytes]:
    """Return the head and the body of an upload."""
    name = FIELDS[path]
    body = b'--x\r\nContent-Disposition: form-data; name="%b"; filename="x"\r\n\r\n' % name.encode()
    body += RED_FACE + b"\r\n--x--\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body), body


def upload(served: Live, path: str = "/predict") -> httpx.Response:
    """Upload an image as one should."""
    return httpx.post(served.address + path, files={FIELDS[path]: RED_FACE}, timeout=20)


def leave(client: socket.socket) -> None:
    """Hang up at once, with a reset, as a process does that is killed."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def end(client: socket.socket) -> None:
    """End the client's side and wait for the other, which cannot tell this from a client that closes both."""
    with client:
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass


hanging_up = pytest.mark.parametrize(
    "hang_up", [socket.socket.close, leave, end], ids=["who closes", "who resets", "who ends one side"]
)
anywhere = pytest.mark.parametrize("path", FIELDS)
HangUp = Callable[[socket.socket], None]


@hanging_up
@anywhere
def test_a_client_that_disconnects_before_the_head_ends_is_not_counted(hang_up: HangUp, path: str) -> None:
    head, _ = request(path)
    with Rig().serving() as served:
        for cut in range(1, len(head), 10):
            client = served.connect()
            client.sendall(head[:cut])
            hang_up(client)

        assert upload(served, path).status_code == 200
        assert served.at_rest()
        assert served.count(path, 499) == served.count(path, 400) == 0


@dataclass(frozen=True)
class Stage:
    """How far a request comes before its client hangs up, and what is then left of it."""

    name: str
    reached: Callable[[Rig, Live], bool]
    held: Callable[[Rig], GatedDetector | FakeBackend] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    missing: int = 0  # bytes of its body that are never sent
    before: int = 0  # requests that are held before it
    looked_at: bool = True  # by the detector
    inferred: bool = False  # by the network
    answered: bool = False


STAGES = [
    Stage(
        "while the body is sent",
        lambda _, served: (
            (served.state.admission.uploads, served.state.admission.images) == (1, 0)
            and served.state.admission.bytes > 0
        ),
        missing=10,
        looked_at=False,
    ),
    Stage(
        "in the line for a worker",
        lambda _, served: served.state.admission.images == 2,
        held=lambda rig: rig.detector,
        settings={"workers": 1},
        before=1,
        looked_at=False,
    ),
    Stage(
        "while the image is looked at",
        lambda rig, served: rig.detector.entered.is_set() and served.state.admission.images == 1,
        held=lambda rig: rig.detector,
        settings={"workers": 1},
    ),
    Stage(
        "in the queue",  # one batch is in the network, and one is prepared ahead
        lambda _, served: _looked_at(served) == 3 and served.state.scheduler.depth >= 1,
        held=lambda rig: rig.backend,
        settings={"max_batch_size": 1},
        before=2,
    ),
    Stage(
        "while the network works",
        lambda rig, _: rig.backend.entered.is_set(),
        held=lambda rig: rig.backend,
        inferred=True,
    ),
    Stage(
        "without reading the answer",
        lambda _, served: served.count("/predict", 200) + served.count("/predict/batch", 200) == 1,
        inferred=True,
        answered=True,
    ),
]


def _looked_at(served: Live) -> float:
    """Return how many images were decoded and their faces found."""
    return served.state.metrics.registry.get_sample_value("manet_find_seconds_count") or 0.0


def _admitted(served: Live, images: int) -> bool:
    return served.state.admission.images == images


@hanging_up
@anywhere
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_client_that_disconnects_at_any_stage_costs_nothing_more_and_holds_nothing(
    stage: Stage, path: str, hang_up: HangUp
) -> None:
    rig, (head, body) = Rig(**stage.settings), request(path)
    held = None if stage.held is None else stage.held(rig)
    if held:
        held.gate.clear()
    with rig.serving() as served, ThreadPoolExecutor(2) as clients:
        admission, others = served.state.admission, []
        for number in range(stage.before):
            assert held is not None, "what comes before a stage must be held"
            others.append(clients.submit(upload, served))
            until(held.entered.is_set)
            until(partial(_admitted, served, number + 1))
        client = served.connect()
        client.sendall((head + body)[: len(head + body) - stage.missing])
        until(lambda: stage.reached(rig, served))
        hang_up(client)

        # Whatever holds it may still be busy, but no one's place is held.
        until(lambda: admission.images == stage.before and (stage.before > 0 or served.at_rest()))
        until(lambda: served.count(path, 499) == (not stage.answered))
        if held:
            held.gate.set()
        assert [other.result().status_code for other in others] == [200] * stage.before
        assert upload(served, path).status_code == 200
        until(served.at_rest)
        assert _looked_at(served) == stage.before + stage.looked_at + 1
        assert rig.backend.batches == [1] * (stage.before + stage.inferred + 1)
        assert served.count(path, 200) == stage.before * (path == "/predict") + stage.answered + 1
        assert served.count(path, 499) == (not stage.answered)


def test_no_hang_up_is_logged_as_a_defect(caplog: pytest.LogCaptureFixture) -> None:
    head, body = request("/predict")
    rig = Rig()
    rig.backend.gate.clear()
    with rig.serving() as served:
        for sent in (head + body[:-10], head + body):
            client = served.connect()
            client.sendall(sent)
            until(lambda: not served.at_rest())
            leave(client)
            until(served.at_rest)
        until(lambda: served.count("/predict", 499) == 2)

    assert [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []


@anywhere
def test_a_slow_sender_is_rejected_and_holds_no_image_s_place(path: str) -> None:
    head, body = request(path)
    with Rig(upload_timeout=0.5).serving() as served:
        client = served.connect()
        client.sendall(head)
        began = time.monotonic()
        sent = 0
        while not served.count(path, 408):
            with contextlib.suppress(ConnectionError):
                client.sendall(body[sent : sent + 1])  # a byte at a time: each is progress, and all are too slow
            sent += 1
            assert served.state.admission.images == 0
            assert time.monotonic() - began < 10
            time.sleep(0.02)

        answer = client.recv(4096)
        client.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"urn:manet:problem:upload-timed-out" in answer
        assert b"within 0.5 seconds" in answer
        assert served.at_rest()


def test_as_many_slow_senders_as_places_keep_no_one_out() -> None:
    head, body = request("/predict")
    most = Settings().max_inflight_images
    with Rig().serving() as served, contextlib.ExitStack() as dawdlers:
        for _ in range(most + 10):
            client = dawdlers.enter_context(served.connect())
            client.sendall(head + body[:-10])
        until(lambda: served.state.admission.uploads == most + 10)

        began = time.monotonic()
        assert upload(served).status_code == 200
        assert upload(served, "/predict/batch").json()["results"][0]["prediction"]
        assert time.monotonic() - began < 5
        assert served.state.admission.bytes == (most + 10) * (len(body) - 10)
        dawdlers.close()
        until(served.at_rest)


def test_more_bodies_than_allowed_are_refused() -> None:
    head, body = request("/predict")
    with Rig(max_uploads=1).serving() as served, served.connect() as client:
        client.sendall(head + body[:-10])
        until(lambda: served.state.admission.uploads == 1)
        refused = upload(served)
        client.sendall(body[-10:])
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")

        assert (refused.status_code, refused.json()["type"]) == (429, "urn:manet:problem:overloaded")
        assert upload(served).status_code == 200
