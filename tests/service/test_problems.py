"""Everything that can go wrong, each with its exact answer."""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest

from service.errors import NAMESPACE
from testing.fakes import RED_FACE, FakeBackend, encode, make_app, paint, post, running, until

pytestmark = pytest.mark.anyio


def check(answer: httpx.Response, status: int, kind: str, *words: str) -> None:
    """Hold a response to RFC 9457 and to what it should say."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail"}
    assert (body["type"], body["status"]) == (NAMESPACE + kind, status)
    assert all(word in body["detail"] for word in words), body["detail"]
    assert "Traceback" not in answer.text
    assert "/secret" not in answer.text


def claim(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


IMAGES = {
    "text": (b"no image at all", 415, "unsupported-image", "JPEG, PNG, WebP, BMP"),
    "pdf": (b"%PDF-1.7", 415, "unsupported-image", "this is a PDF: export the page as JPEG or PNG"),
    "empty": (b"", 422, "broken-image", "0 bytes"),
    "truncated": (RED_FACE[: len(RED_FACE) // 2], 422, "broken-image", "truncated or corrupt"),
    "bomb": (claim(30_000, 30_000), 413, "payload-too-large", "more than 40000000 pixels"),
}


@pytest.mark.parametrize(("data", "status", "kind", "words"), IMAGES.values(), ids=IMAGES)
async def test_what_is_no_image(data: bytes, status: int, kind: str, words: str) -> None:
    async with running(make_app()) as client:
        check(await post(client, data), status, kind, words)


async def test_a_body_that_is_no_form() -> None:
    async with running(make_app()) as client:
        check(await client.post("/predict"), 400, "malformed-request", "multipart/form-data")
        check(await client.post("/predict", content=RED_FACE), 400, "malformed-request", "multipart/form-data")
        no_boundary = {"content-type": "multipart/form-data"}
        check(await client.post("/predict", content=b"x", headers=no_boundary), 400, "malformed-request", "boundary")


async def test_a_form_without_the_image_with_two_or_with_too_many_parts() -> None:
    async with running(make_app()) as client:
        check(await client.post("/predict", files={"photo": RED_FACE}), 422, "invalid-parameter", "'image'", "found 0")
        two = [("image", RED_FACE), ("image", RED_FACE)]
        check(await client.post("/predict", files=two), 422, "invalid-parameter", "found 2")
        many = [("image", RED_FACE)] * 1000
        check(await client.post("/predict", files=many), 400, "malformed-request", "too many files")


async def test_parameters_out_of_range() -> None:
    async with running(make_app()) as client:
        answer = await post(client, RED_FACE, faces="some", max_faces=0)

    check(
        answer, 422, "invalid-parameter", "faces: ", "'small' or 'whole'", "max_faces: ", "greater than or equal to 1"
    )


async def test_too_many_bytes_by_the_stated_length_are_refused_unread() -> None:
    async with running(make_app(max_upload_bytes=1000)) as client:
        check(await post(client, bytes(2000)), 413, "payload-too-large", "at most 1000")


async def test_too_many_bytes_without_a_length_are_refused_on_the_way() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        while sent < 100_000_000:
            sent += 10_000
            yield bytes(10_000)

    async with running(make_app(max_upload_bytes=100_000)) as client:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = await client.post("/predict", content=endless(), headers=headers)

    check(answer, 413, "payload-too-large", "more than 100000 bytes")
    assert sent < 200_000


async def test_a_sender_that_is_too_slow() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        await asyncio.sleep(60)

    app = make_app(upload_timeout=0.2)
    async with running(app) as client:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        check(await client.post("/predict", content=slow(), headers=headers), 408, "upload-timed-out", "0.2 seconds")
        assert app.state.service.admission.uploads == 0


async def test_more_images_than_allowed() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    async with running(make_app(backend, max_inflight_images=1)) as client:
        first = asyncio.create_task(post(client, RED_FACE))
        await until(backend.entered)
        second = await post(client, RED_FACE)
        backend.gate.set()

        check(second, 429, "overloaded", "images")
        assert int(second.headers["retry-after"]) >= 1
        assert (await first).status_code == 200
        assert 'manet_shed_total{reason="images"} 1.0' in (await client.get("/metrics")).text


async def test_more_faces_than_may_wait() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    async with running(make_app(backend, max_batch_size=1, max_queued_faces=1)) as client:
        tasks = []
        for _place in ("in the network", "prepared", "queued"):
            tasks.append(asyncio.create_task(post(client, RED_FACE)))
            await until(backend.entered)
            await asyncio.sleep(0.1)
        refused = await post(client, RED_FACE)
        backend.gate.set()

        check(refused, 429, "overloaded", "1 of 1 places")
        assert int(refused.headers["retry-after"]) >= 1
        assert {(await task).status_code for task in tasks} == {200}


async def test_a_deadline_that_passes_in_the_queue() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    async with running(make_app(backend, deadline=0.3, max_batch_size=1)) as client:
        first = asyncio.create_task(post(client, RED_FACE))
        await until(backend.entered)
        second = asyncio.create_task(post(client, RED_FACE))
        await asyncio.sleep(0.5)
        backend.gate.set()

        check(await second, 504, "deadline-exceeded", "deadline")
        assert backend.batches == [1]
        await first


async def test_a_face_that_the_network_fails_on_fails_alone() -> None:
    backend = FakeBackend()
    backend.poison = 200
    async with running(make_app(backend)) as client:
        bad, good = await asyncio.gather(post(client, encode(paint((200, 0, 0)))), post(client, RED_FACE))

        check(bad, 500, "face-failed", "this face")
        assert good.status_code == 200
        assert (await client.get("/health/ready")).status_code == 200


async def test_a_network_that_fails_altogether() -> None:
    backend = FakeBackend()
    async with running(make_app(backend)) as client:
        backend.broken = True
        for _ in range(3):
            last = await post(client, RED_FACE)

        check(last, 503, "not-ready", "the network fails on every batch")
        assert int(last.headers["retry-after"]) >= 1
        check(await client.get("/health/ready"), 503, "not-ready", "the network fails on every batch")
        assert (await client.get("/health/live")).status_code == 200
        assert 'manet_shed_total{reason="not_ready"}' in (await client.get("/metrics")).text


async def test_an_unexpected_error_reveals_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("/secret/path: a bug")

    app = make_app()
    monkeypatch.setattr(app.state.service.predictor, "client", fail)
    async with running(app) as client:
        check(await post(client, RED_FACE), 500, "internal-error", "defect")


async def test_paths_and_methods_that_are_not_there() -> None:
    async with running(make_app()) as client:
        check(await client.get("/nothing"), 404, "not-found")
        wrong = await client.get("/predict")
        check(wrong, 405, "method-not-allowed")
        assert wrong.headers["allow"] == "POST"
