"""The wire: what one connection may take, told over a real socket by those who take more."""

import contextlib
import json
import socket
import time
import tomllib
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from websockets.sync.client import connect

from service.http.protocol import BoundedProtocol, ConnectionBounds
from service.middleware.security_headers import ALWAYS
from service.server import server
from service.settings import Settings
from testing.fakes import RED_FACE, FakeBackend, make_app
from testing.live import Live, live, until
from testing.processes import ROOT

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + RED_FACE + b"\r\n--x--\r\n"
UPLOAD = POST + b"Content-Length: %d\r\n\r\n" % len(FORM)
SOON = ConnectionBounds(head_timeout=0.4, linger=0.2)
KIB = b"a" * 1024
FIELD = b"X-Long: %b\r\n"


def send(client: socket.socket, parts: Iterable[bytes], refused: Callable[[], bool]) -> bool:
    """Send until refused; return whether that was before the end."""
    for part in parts:
        client.sendall(part)
        if refused():
            return True
    return False


def answers(client: socket.socket) -> list[tuple[int, Any]]:
    """Return the status and the content of each answer that comes before the other end closes."""
    read = b""
    while more := client.recv(65536):
        read += more
    found = []
    while read:
        head, _, rest = read.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        content = json.loads(rest[:length])
        status = int(head.split(b" ")[1])
        if status >= 400:
            assert fields[b"content-type"] == b"application/problem+json"
            assert fields[b"x-request-id"]
            assert all(fields[name.lower().encode()] == value.lower().encode() for name, value in ALWAYS.items())
        found.append((status, content.get("type", content.get("status"))))
        read = rest[length:]
    return found


def problem(status: int, name: str) -> tuple[int, str]:
    return status, f"urn:manet:problem:{name}"


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        ([GET, FIELD % (KIB * 40), b"\r\n"], problem(431, "head-too-large")),
        ([GET, *[FIELD % KIB] * 40, b"\r\n"], problem(431, "head-too-large")),
        ([GET, b"X-Long: ", *[KIB] * 20_000], problem(431, "head-too-large")),
        ([GET, *[FIELD % KIB] * 20_000], problem(431, "head-too-large")),
        ([GET, *[b"A: b\r\n"] * 100, b"\r\n"], problem(431, "head-too-large")),
        ([GET, KIB * 40], problem(431, "head-too-large")),
        ([b"GET /?", KIB * 9, b" HTTP/1.1\r\n\r\n"], problem(414, "target-too-long")),
        ([b"GET /?", *[KIB] * 20_000], problem(414, "target-too-long")),
        ([b"GET /?", KIB * 9, b" HTTP/1.1\r\n", *[FIELD % KIB] * 20_000], problem(414, "target-too-long")),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01"], problem(400, "malformed-request")),
    ],
    ids=[
        "one long field",
        "many fields",
        "a field without end",
        "fields without end",
        "too many fields",
        "a name without end",
        "a long target",
        "a target without end",
        "a long target and fields without end",
        "no HTTP",
    ],
)
def test_a_head_over_a_bound_is_refused_while_it_is_still_being_sent(
    head: list[bytes], refused: tuple[int, str]
) -> None:
    with live(make_app()) as served, served.connect() as client:
        early = send(client, head, lambda: served.count("other", refused[0]) == 1)
        assert early or len(head) < 1000
        assert answers(client) == [refused]
        assert served.count("other", refused[0]) == 1


def test_a_bound_comes_before_whatever_else_is_wrong_with_a_head_that_comes_whole() -> None:
    names_no_host = b"GET /?" + KIB * 9 + b" HTTP/1.1\r\n\r\n"
    with live(make_app()) as served, served.connect() as client:
        client.sendall(names_no_host)
        assert answers(client) == [problem(414, "target-too-long")]


def test_a_head_within_the_bounds_is_read_whatever_it_comes_in() -> None:
    fields = [FIELD % (b"%d" % number + b"a" * 300) for number in range(90)]
    with live(make_app()) as served, served.connect() as client:
        whole = GET.replace(b"live", b"live?" + b"a" * 4000) + b"".join(fields)
        assert 30_000 < len(whole) < ConnectionBounds().max_head_bytes
        for byte in range(0, len(whole), 997):
            client.sendall(whole[byte : byte + 997])
        client.sendall(b"\r\n")
        client.sendall(whole + b"Connection: close\r\n\r\n")
        assert answers(client) == [(200, "live")] * 2


def test_bodies_and_requests_that_came_before_do_not_count() -> None:
    large = b"--x\r\n" + bytes(200_000)
    chunks = [CHUNKED, *[b"1\r\na\r\n"] * 20_000, b"0\r\n\r\n"]
    with live(make_app()) as served, served.connect() as client:
        for _ in range(20):
            client.sendall(GET + FIELD % (KIB * 20) + b"\r\n")
        client.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(large) + large)
        client.sendall(b"".join(chunks))
        client.sendall(GET + b"Connection: close\r\n\r\n")
        malformed = problem(400, "malformed-request")
        assert answers(client) == [*[(200, "live")] * 20, malformed, malformed, (200, "live")]


def test_on_a_connection_that_is_kept_a_bad_head_is_refused_and_those_before_it_are_answered() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    with live(make_app(backend), SOON) as served:
        with served.connect() as client:
            client.sendall(GET + b"\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            client.sendall(GET + FIELD % (KIB * 40) + b"\r\n")
            assert answers(client) == [problem(431, "head-too-large")]
        with served.connect() as client:
            client.sendall(UPLOAD + FORM + GET + FIELD % (KIB * 40) + b"\r\n" + GET + b"\r\n")
            assert backend.entered.wait(20)
            backend.gate.set()
            [(status, _)] = answers(client)
        assert status == 200
        assert served.count("/predict", 200) == 1


@pytest.mark.parametrize(
    "rest",
    [b"0\r\n" + (FIELD % KIB) * 60 + b"\r\n", b"0\r\n" + FIELD % (KIB * 300), b"1;" + KIB * 300, b"0\r\n\x00"],
    ids=["trailers", "a trailer without end", "a chunk extension without end", "no chunk"],
)
def test_what_stands_around_a_body_is_bounded_too(rest: bytes) -> None:
    with live(make_app(), SOON) as served, served.connect() as client:
        client.sendall(CHUNKED + b"5\r\n--x\r\n\r\n")
        until(lambda: served.state.admission.bytes == 5)
        client.sendall(rest)
        [(status, _)] = answers(client)
        assert status in {400, 431}
        until(served.at_rest)
        assert served.count("/predict", 499) == 1


@pytest.mark.parametrize(
    ("begun", "told"),
    [
        (b"", []),
        (b"\r\n", []),
        (b"G", [problem(408, "head-timed-out")]),
        (GET, [problem(408, "head-timed-out")]),
        (GET + b"\r\n", [(200, "live")]),
        (GET + b"\r\n" + GET, [(200, "live"), problem(408, "head-timed-out")]),
        (GET + b"Content-Length: 100\r\n\r\nabc", [(200, "live")]),
    ],
    ids=["nothing", "no head", "a byte", "half a head", "one that is kept", "the next head", "answered before its end"],
)
def test_a_slow_head_is_answered_with_408_and_a_silent_connection_is_closed(
    begun: bytes, told: list[tuple[int, str]]
) -> None:
    with live(make_app(), SOON) as served, served.connect() as client:
        began = time.monotonic()
        client.sendall(begun)
        assert answers(client) == told
        assert 0.3 < time.monotonic() - began < 5
        assert served.count("other", 408) == sum(status == 408 for status, _ in told)


def test_a_byte_at_a_time_is_no_progress() -> None:
    with live(make_app(), SOON) as served, served.connect() as client:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in GET + KIB:
                client.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - began < 5
        assert served.count("other", 408) == 1


def slow_work(served: Live, backend: FakeBackend) -> None:
    backend.gate.clear()
    with served.connect() as client:
        client.sendall(UPLOAD + FORM)
        assert backend.entered.wait(20)
        time.sleep(3 * SOON.head_timeout)
        backend.gate.set()
        assert answers(client)[0][0] == 200


def slow_body(served: Live, backend: FakeBackend) -> None:
    with served.connect() as client:
        client.sendall(UPLOAD)
        for byte in range(0, len(FORM), 50):
            client.sendall(FORM[byte : byte + 50])
            time.sleep(3 * SOON.head_timeout * 50 / len(FORM))
        assert answers(client)[0][0] == 200


def stream(served: Live, backend: FakeBackend) -> None:
    with connect(f"ws://127.0.0.1:{served.port}/stream", compression=None) as client:
        for _ in range(4):
            client.send(RED_FACE)
            assert json.loads(client.recv(timeout=20))["faces"]
            time.sleep(SOON.head_timeout)


@pytest.mark.parametrize("use", [slow_work, slow_body, stream])
def test_what_takes_long_for_another_reason_goes_on(use: Callable[[Live, FakeBackend], None]) -> None:
    backend = FakeBackend()
    with live(make_app(backend), SOON) as served:
        use(served, backend)


def test_the_handshake_of_a_stream_is_bounded() -> None:
    with live(make_app(), SOON) as served, served.connect() as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n")
        client.sendall(FIELD % (KIB * 40) + b"\r\n")
        assert answers(client) == [problem(431, "head-too-large")]


def test_requests_that_wait_on_one_connection_are_bounded() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    with live(make_app(backend), ConnectionBounds(max_pipelined_requests=3)) as served, served.connect() as client:
        client.sendall(UPLOAD + FORM + (GET + b"\r\n") * 10)
        assert backend.entered.wait(20)
        backend.gate.set()
        assert [status for status, _ in answers(client)] == [200] * 4


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
def test_a_client_that_reads_no_answer_is_disconnected(last: bytes, caplog: pytest.LogCaptureFixture) -> None:
    whole = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n" + last + b"\r\n"
    with live(make_app(), ConnectionBounds(head_timeout=0.2, send_timeout=0.2)) as served, socket.socket() as client:
        # So that the kernel takes little in the client's place.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        served.server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(whole * 50)
        until(lambda: served.count("other", 200) > 0)
        until(lambda: not served.connected)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while more := client.recv(65536):
                taken += len(more)
        assert taken < 50_000, "it was taken after all, by the kernel"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_the_installed_uvicorn_is_the_one_whose_internals_are_overridden() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [pinned] = [found for found in map(Requirement, project["dependencies"]) if found.name == "uvicorn"]
    installed = Version(version("uvicorn"))

    assert installed in pinned.specifier, (
        f"uvicorn {installed} is installed, but service/http/protocol.py overrides internals of {pinned}: compare it "
        "with uvicorn/protocols/http/httptools_impl.py of that version, and then change the requirement"
    )
    assert Version(f"{installed.major}.{installed.minor + 1}") not in pinned.specifier, (
        "another minor version is allowed"
    )


def test_the_server_is_bounded_so() -> None:
    made = server(make_app(), Settings()).config.http
    assert getattr(made, "func", None) is BoundedProtocol


def test_the_bounds_of_a_connection_are_settings() -> None:
    chosen: dict[str, Any] = {
        "max_head_bytes": 9000,
        "max_head_fields": 10,
        "max_target_bytes": 100,
        "head_timeout": 3.0,
        "max_pipelined_requests": 2,
    }
    made = server(make_app(), Settings(**chosen)).config.http

    assert getattr(made, "keywords", {})["bounds"] == ConnectionBounds(**chosen)
