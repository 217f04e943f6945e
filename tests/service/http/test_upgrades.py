"""Upgrades on the wire: one that is not taken is ignored, and the body belongs to its request (RFC 9110, 7.8)."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from testing.fakes import RED_FACE, make_app
from testing.live import Live, live
from tests.service.http.test_protocol import FORM, GET, answers, problem

OFFERS = ["h2c", "TLS/1.3", "foo/1", "h2c, websocket", "websocket, h2c"]
CLOSE = b"Connection: close\r\n\r\n"
SMUGGLED = b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n"


def post(offer: str, *framing: bytes, path: str = "/predict") -> bytes:
    """Return the head of an upload that offers an upgrade, as Java's client and ``curl --http2`` do."""
    lines = [
        f"POST {path} HTTP/1.1".encode(),
        b"Host: x",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: " + offer.encode(),
        b"HTTP2-Settings: AAEAAEAAAAIAAAAB",
        b"Content-Type: multipart/form-data; boundary=x",
        *framing,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def chunked(body: bytes) -> bytes:
    """Return a body in two chunks."""
    parts = (body[:7], body[7:])
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def sent(served: Live, parts: Iterable[bytes], pause: float = 0.0) -> list[tuple[int, object]]:
    """Return what is answered to pieces that are sent one after the other, and the status of each answer."""
    with served.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        client.settimeout(30)
        return answers(client)


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "body apart"])
@pytest.mark.parametrize("frame", ["length", "chunked"])
def test_the_body_behind_an_offered_upgrade_belongs_to_its_request(offer: str, apart: bool, frame: str) -> None:
    body = FORM if frame == "length" else chunked(FORM)
    head = post(offer, length(FORM) if frame == "length" else b"Transfer-Encoding: chunked")
    pieces = [head, body] if apart else [head + body]
    with live(make_app()) as served:
        found = sent(served, [*pieces, GET + CLOSE], pause=0.05 if apart else 0.0)

    assert found == [(200, None), (200, "live")]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_a_request_in_a_body_is_not_answered(offer: str, pause: float) -> None:
    with live(make_app()) as served:
        found = sent(served, [post(offer, length(SMUGGLED)), SMUGGLED, GET + CLOSE], pause=pause)

    assert found == [problem(400, "malformed-request"), (200, "live")]


def test_it_does_not_matter_where_a_stream_is_cut() -> None:
    offered = GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    whole = offered + post("h2c", length(FORM)) + FORM + offered + GET + CLOSE
    expected = [(200, "live"), (200, None), (200, "live"), (200, "live")]
    with live(make_app()) as served:
        for size in (1, 7, 61, len(whole)):
            assert sent(served, [whole[at : at + size] for at in range(0, len(whole), size)]) == expected, size


def test_curl_uploads_where_it_offers_http_2(tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None or b"HTTP2" not in subprocess.run([curl, "--version"], capture_output=True, check=True).stdout:
        pytest.skip("curl with HTTP/2 is not installed here")
    image = tmp_path / "face.png"
    image.write_bytes(RED_FACE)
    with live(make_app()) as served:
        command = [curl, "--http2", "--silent", "--form", f"image=@{image}", f"{served.address}/predict"]
        answer = subprocess.run([*command, "--verbose"], capture_output=True, check=True, timeout=60)

    assert b"Upgrade: h2c" in answer.stderr
    assert len(json.loads(answer.stdout)["faces"]) == 1


HANDSHAKE = (
    b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + base64.b64encode(os.urandom(16))
    + b"\r\n"
)


@pytest.mark.parametrize("path", [b"/stream", b"/", b"/nowhere"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_the_handshake_of_a_websocket_has_no_body(path: bytes, method: bytes, framing: bytes) -> None:
    with live(make_app()) as served:
        found = sent(served, [b"%b %b HTTP/1.1\r\n" % (method, path) + HANDSHAKE + framing + b"\r\nhello"])

    assert found == [problem(400, "malformed-request")]


@pytest.mark.parametrize("path", [b"/stream", b"/nowhere"])
@pytest.mark.parametrize("behind", [b"", SMUGGLED], ids=["one request", "two requests"])
def test_the_handshake_of_a_websocket_does_not_overtake_an_answer(path: bytes, behind: bytes) -> None:
    upload = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    whole = upload + length(FORM) + b"\r\n\r\n" + FORM + behind + b"GET %b HTTP/1.1\r\n" % path + HANDSHAKE + b"\r\n"
    with live(make_app()) as served:
        found = sent(served, [whole])

    assert [status for status, _ in found] == [200] * (1 + bool(behind)), "and then the connection is closed"


def test_a_tunnel_is_not_opened() -> None:
    with live(make_app()) as served:
        found = sent(served, [b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n" + SMUGGLED])

    assert found == [problem(400, "malformed-request")]
