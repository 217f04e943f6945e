"""Streams: live video over a real socket, with a network whose answers are known."""

import base64
import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from service.observability.log_filters import WebSocketLogFilter
from service.routes.stream import PROTOCOL, is_allowed
from service.server import server
from service.settings import Settings
from testing.fakes import BLUE, RED, RED_FACE, FakeBackend, encode, make_app, paint
from testing.live import Live, live, until

KEY = "k1-abcdefghijklmnop"
BLUE_FACE = encode(paint((0, 0, 255)))
TWO_FACES = encode(paint((255, 0, 0), (0, 0, 255)))


@contextlib.contextmanager
def streaming(backend: FakeBackend | None = None, **settings: Any) -> Iterator[Live]:
    backend = backend or FakeBackend()
    with live(make_app(backend, **settings)) as served:
        try:
            yield served
        finally:
            backend.gate.set()


def opened(served: Live, query: str = "", **options: Any) -> ClientConnection:
    client: ClientConnection = connect(f"ws://127.0.0.1:{served.port}/stream{query}", compression=None, **options)
    return client


def ask(client: ClientConnection, data: bytes | str) -> dict[str, Any]:
    client.send(data)
    answer: dict[str, Any] = json.loads(client.recv(timeout=20))
    return answer


def code(client: ClientConnection) -> int | None:
    """Return the code that the service closes with."""
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=20)
    received = closed.value.rcvd
    return None if received is None else received.code


def frames(served: Live, outcome: str) -> float:
    found = served.state.metrics.registry.get_sample_value("manet_stream_frames_total", {"outcome": outcome})
    return found or 0.0


def test_faces_are_answered_with_their_tracks_and_smoothed_probabilities() -> None:
    with streaming() as served, opened(served) as client:
        first, second = ask(client, TWO_FACES), ask(client, TWO_FACES)
        assert (first["frame"], second["frame"], second["dropped"]) == (0, 1, 0)
        assert first["image"] == {"width": 64, "height": 48}
        assert first["faces_total"] == 2
        assert [face["expression"] for face in first["faces"]] == [RED, BLUE]
        assert [face["track"] for face in first["faces"]] == [face["track"] for face in second["faces"]] == [1, 2]
        assert 0 < first["age_ms"] < 20_000
        assert served.state.streams.open == 1
    until(lambda: served.state.streams.open == 0)
    assert served.at_rest()


def test_the_expression_is_that_of_the_smoothed_probabilities() -> None:
    with streaming() as served, opened(served, "?half_life=60") as client:
        ask(client, RED_FACE)
        [face] = ask(client, BLUE_FACE)["faces"]
    assert (face["track"], face["expression"]) == (1, RED)
    assert max(face["probabilities"], key=face["probabilities"].get) == BLUE
    assert face["confidence"] == face["smoothed"][RED]


def test_the_newest_frame_wins_and_those_that_it_overtook_are_never_read() -> None:
    backend = FakeBackend()
    with streaming(backend) as served, opened(served) as client:
        backend.gate.clear()
        client.send(RED_FACE)
        assert backend.entered.wait(20)
        for _ in range(20):
            client.send(b"no image: reading this fails")
        client.send(BLUE_FACE)
        until(lambda: frames(served, "dropped") == 20)
        assert served.state.admission.images == 1
        backend.gate.set()
        answers = [json.loads(client.recv(timeout=20)) for _ in range(2)]
    assert [answer["frame"] for answer in answers] == [0, 21]
    assert (answers[1]["dropped"], answers[1]["faces"][0]["track"]) == (20, 1)
    assert sum(backend.batches) == 2


def test_a_bad_frame_is_a_problem_and_the_stream_goes_on() -> None:
    with streaming() as served, opened(served) as client:
        bad, good = ask(client, b"no image"), ask(client, RED_FACE)
        assert bad["problem"]["type"] == "urn:manet:problem:unsupported-image"
        assert (bad["frame"], bad["retry_after"], good["frame"], len(good["faces"])) == (0, None, 1, 1)
        assert (frames(served, "failed"), frames(served, "answered")) == (1, 1)


def test_each_frame_goes_through_admission_and_the_client_s_own_rate() -> None:
    with streaming(max_bytes_in_flight=10) as served, opened(served) as client:
        assert ask(client, RED_FACE)["problem"]["type"] == "urn:manet:problem:overloaded"
    with streaming(rate_limit="3/year") as served, opened(served) as client:
        answers = [ask(client, RED_FACE) for _ in range(3)]
        assert ["problem" in answer for answer in answers] == [False, False, True]
        assert answers[2]["problem"]["type"] == "urn:manet:problem:rate-limited"
        assert answers[2]["retry_after"] > 1
        with pytest.raises(InvalidStatus) as refused:
            opened(served)
        assert refused.value.response.status_code == 429


def test_a_client_may_stream_though_it_may_have_one_request_in_flight_only() -> None:
    with streaming(max_client_requests=1) as served, opened(served) as client:
        assert len(ask(client, RED_FACE)["faces"]) == 1
        with opened(served) as second:
            assert code(second) == 1013


def test_sessions_are_bounded() -> None:
    with streaming(max_streams=1) as served:
        with opened(served) as client:
            ask(client, RED_FACE)
            with opened(served) as second:
                assert code(second) == 1013
        until(lambda: served.state.streams.open == 0)
        with opened(served) as third:
            ask(third, RED_FACE)


def test_a_service_that_stops_says_so() -> None:
    with streaming() as served, opened(served) as client:
        served.state.admission.draining = True
        client.send(RED_FACE)
        assert code(client) == 1012
        with opened(served) as late:
            assert code(late) == 1012


def test_a_stream_that_sends_nothing_or_text_is_closed() -> None:
    with streaming(stream_idle_timeout=0.2) as served, opened(served) as client:
        assert code(client) == 1001
    with streaming() as served, opened(served) as client:
        client.send("hello")
        assert code(client) == 1003


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"X-API-Key": KEY}},
        {"subprotocols": [PROTOCOL, "manet.key." + base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("=")]},
    ],
    ids=["header", "subprotocol"],
)
def test_a_key_opens_in_a_header_or_as_a_subprotocol(options: dict[str, Any]) -> None:
    with streaming(api_keys=KEY) as served, opened(served, **options) as client:
        assert ask(client, RED_FACE)["frame"] == 0
        assert client.subprotocol in {None, PROTOCOL}


@pytest.mark.parametrize("offered", [None, "manet.key.", "manet.key.x", "manet.key.azItYWJjZGVmZ2hpamtsbW5vcA"])
def test_without_a_known_key_the_handshake_is_refused(offered: str | None, caplog: pytest.LogCaptureFixture) -> None:
    with streaming(api_keys=KEY) as served, pytest.raises(InvalidStatus) as refused:
        opened(served, subprotocols=offered and [PROTOCOL, offered])
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["type"] == "urn:manet:problem:unauthorized"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("origin", "allowed", "may"),
    [
        (None, (), True),
        ("https://a.org", (), True),
        ("http://b.org", (), False),
        ("null", (), False),
        ("http://b.org", ("http://b.org",), True),
        ("http://a.org.b.org", (), False),
        ("http://b.org", ("*",), True),
    ],
)
def test_only_pages_of_an_allowed_origin_may_stream(origin: str | None, allowed: tuple[str, ...], may: bool) -> None:
    assert is_allowed(origin, "a.org", allowed) == may


def test_a_page_of_another_origin_is_refused_before_the_stream_is_accepted() -> None:
    with streaming() as served:
        with pytest.raises(InvalidStatus) as refused:
            opened(served, origin="http://evil.example")
        assert refused.value.response.status_code == 403
        with opened(served, origin=f"http://127.0.0.1:{served.port}") as client:
            ask(client, RED_FACE)


def test_the_server_bounds_messages_and_logs_none_of_them() -> None:
    config = server(make_app(), Settings(max_frame_bytes=1000)).config
    assert (config.ws_max_size, config.ws_per_message_deflate) == (1000, False)

    line = '%s - "WebSocket %s" [accepted]'

    def record(level: int, message: str, *args: object) -> logging.LogRecord:
        return logging.LogRecord("uvicorn.error", level, "", 0, message, args, None)

    accepted = record(logging.INFO, line, "1.2.3.4:5", "/stream?secret")
    assert WebSocketLogFilter(True).filter(accepted)
    assert "secret" not in accepted.getMessage()
    assert not WebSocketLogFilter(False).filter(record(logging.INFO, line, "1.2.3.4:5", "/stream"))
    assert not WebSocketLogFilter(True).filter(record(logging.DEBUG, "< %s", "BINARY"))
    assert WebSocketLogFilter(True).filter(record(logging.ERROR, "out of order"))


def test_a_client_that_leaves_takes_its_frame_out_of_work() -> None:
    backend = FakeBackend()
    with streaming(backend) as served:
        backend.gate.clear()
        with opened(served) as client:
            client.send(RED_FACE)
            assert backend.entered.wait(20)
        until(lambda: served.state.streams.open == served.state.admission.images == 0)
