"""Ends of a stream that no well-behaved client sees, told at the application's own edge, without a socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message

from service.inference.predictor import Predictor
from service.routes import stream
from service.state import ServiceState
from testing.fakes import RED_FACE, FakeBackend, make_app, running, until

pytestmark = pytest.mark.anyio

SCOPE = {
    "type": "websocket",
    "asgi": {"version": "3.0"},
    "scheme": "ws",
    "path": "/stream",
    "query_string": b"",
    "root_path": "",
    "headers": [],
    "subprotocols": [],
    "client": ("192.0.2.1", 1),
    "server": ("test", 80),
}


class Client:
    """The other end of one stream, which takes what is said to it only when a test lets it."""

    def __init__(self, app: FastAPI) -> None:
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self._said.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app({**SCOPE}, self.receive, self.send))

    def show(self, frame: bytes) -> None:
        self._said.put_nowait({"type": "websocket.receive", "bytes": frame})

    async def receive(self) -> Message:
        return await self._said.get()

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        self._heard.put_nowait(message)

    async def heard(self) -> Message:
        async with asyncio.timeout(20):
            return await self._heard.get()

    async def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await self.heard())["text"])
        return found

    async def closed(self) -> tuple[int, str]:
        message = await self.heard()
        assert message["type"] == "websocket.close"
        return message["code"], message["reason"]

    async def ended(self) -> None:
        """Wait for the application's own end of the stream."""
        async with asyncio.timeout(20):
            await self.task


@contextlib.asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[Client]:
    client = Client(app)
    try:
        assert (await client.heard())["type"] == "websocket.accept"
        yield client
    finally:
        client.task.cancel()
        await asyncio.wait([client.task])


def state(app: FastAPI) -> ServiceState:
    found: ServiceState = app.state.service
    return found


def frames(app: FastAPI, outcome: str) -> float:
    found = state(app).metrics.registry.get_sample_value("manet_stream_frames_total", {"outcome": outcome})
    return found or 0.0


def is_left(app: FastAPI, streams: int) -> bool:
    """Return whether so many streams are open, and nothing else is held."""
    admission = state(app).admission
    return state(app).streams.open == streams and admission.uploads == admission.images == admission.bytes == 0


async def test_one_stream_too_many_is_closed_with_1013_and_takes_no_place() -> None:
    app = make_app(max_streams=1)
    async with running(app), opened(app) as first:
        async with opened(app) as second:
            assert await second.closed() == (1013, "too many streams are open; try again later")
            await second.ended()
        assert is_left(app, 1)
        first.show(RED_FACE)
        assert len((await first.answer())["faces"]) == 1


async def test_a_slow_reader_sees_fewer_frames_and_not_older_ones() -> None:
    backend = FakeBackend()
    app = make_app(backend)
    async with running(app), opened(app) as client:
        client.reads.clear()
        client.show(RED_FACE)
        await until(backend.entered)
        while not frames(app, "answered"):
            await asyncio.sleep(0)
        for _ in range(20):
            client.show(RED_FACE)
        while frames(app, "dropped") < 19:
            await asyncio.sleep(0)
        assert backend.batches == [1], "a frame was begun whose answer no one can take yet"
        client.reads.set()
        answers = [await client.answer(), await client.answer()]

    assert [(answer["frame"], answer["dropped"]) for answer in answers] == [(0, 0), (20, 19)]
    assert backend.batches == [1, 1]


async def test_a_client_that_reads_nothing_is_disconnected() -> None:
    app = make_app(stream_idle_timeout=0.2)
    async with running(app), opened(app) as client:
        client.reads.clear()
        client.show(RED_FACE)
        while not client.task.done():
            client.show(RED_FACE)  # so that it is not the want of frames that ends it
            await asyncio.sleep(0.02)
        await client.ended()
        assert is_left(app, 0)
        assert frames(app, "answered") == 1


async def test_a_client_that_does_not_read_the_close_frame_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CLOSE_TIMEOUT", 0.1)
    app = make_app(stream_idle_timeout=0.2)
    async with running(app), opened(app) as client:
        client.reads.clear()
        await client.ended()
        assert is_left(app, 0)


async def test_a_network_that_is_lost_ends_streams_and_opens_none() -> None:
    backend = FakeBackend()
    app = make_app(backend)
    told = (1013, "the network does not answer; try again later")
    async with running(app), opened(app) as client:
        client.show(RED_FACE)
        assert "faces" in await client.answer()
        backend.broken = True
        client.show(RED_FACE)
        while (message := await client.heard())["type"] == "websocket.send":  # lost at its second failure
            assert json.loads(message["text"])["problem"]["type"] == "urn:manet:problem:face-failed"
            client.show(RED_FACE)
        assert (message["code"], message["reason"]) == told
        await client.ended()
        assert frames(app, "refused") == 1
        async with opened(app) as late:
            assert await late.closed() == told
            await late.ended()
        assert is_left(app, 0)


async def test_a_defect_ends_the_stream_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(Predictor, "predict", fail)
    app = make_app()
    async with running(app), opened(app) as client:
        client.show(RED_FACE)
        assert await client.closed() == (1011, "this is a defect of the service")
        await client.ended()
        assert is_left(app, 0)
        assert frames(app, "failed") == 1

    [record] = [record for record in caplog.records if record.name == "manet.streams"]
    assert record.getMessage() == "an unexpected KeyError; this is a defect of the service"
    assert record.exc_info
