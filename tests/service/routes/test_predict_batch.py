"""``POST /predict/batch``: many images in one request, each answered by itself, and no one else kept waiting."""

import asyncio

import httpx
import pytest

from service.errors import NAMESPACE
from testing.fakes import BLUE, NO_FACE, RED, RED_FACE, FakeBackend, encode, make_app, paint, post, running, until

pytestmark = pytest.mark.anyio

BLUE_FACE = encode(paint((0, 0, 255)))


async def post_many(client: httpx.AsyncClient, images: list[bytes], **query: str | int) -> httpx.Response:
    """Upload many images in one form."""
    return await client.post("/predict/batch", params=query, files=[("images", ("x", data)) for data in images])


async def test_each_image_has_its_own_row_in_order() -> None:
    async with running(make_app()) as client:
        answer = await post_many(client, [RED_FACE, b"no image", NO_FACE, b"", BLUE_FACE])
        alone = await post(client, RED_FACE)

    assert answer.status_code == 200
    red, text, faceless, empty, blue = answer.json()["results"]
    assert red == {"prediction": alone.json(), "problem": None}
    assert [face["expression"] for face in blue["prediction"]["faces"]] == [BLUE]
    assert faceless["prediction"]["faces"] == []
    for row, status, kind in ((text, 415, "unsupported-image"), (empty, 422, "broken-image")):
        assert row["prediction"] is None
        assert (row["problem"]["status"], row["problem"]["type"]) == (status, NAMESPACE + kind)


async def test_parameters_hold_for_every_image() -> None:
    two = encode(paint((255, 0, 0), (0, 0, 255)))
    async with running(make_app()) as client:
        answer = await post_many(client, [two, two], max_faces=1)

    assert [[face["expression"] for face in row["prediction"]["faces"]] for row in answer.json()["results"]] == [
        [RED],
        [RED],
    ]


@pytest.mark.parametrize(("count", "status"), [(0, 422), (3, 200), (4, 422), (50, 400)])
async def test_the_number_of_images_is_bounded(count: int, status: int) -> None:
    async with running(make_app(max_batch_images=3)) as client:
        answer = await client.post("/predict/batch", files=[("images", RED_FACE)] * count or [("other", RED_FACE)])

    assert answer.status_code == status
    if status == 422:
        assert "1 to 3 files in the form field 'images'" in answer.json()["detail"]


async def test_the_body_is_bounded() -> None:
    async with running(make_app(max_batch_bytes=1000)) as client:
        answer = await post_many(client, [bytes(2000)])

    assert answer.status_code == 413


async def test_each_image_takes_a_permit_of_its_own() -> None:
    async with running(make_app(max_inflight_images=2)) as client:
        answer = await post_many(client, [RED_FACE] * 5, faces="whole")
        again = await post_many(client, [RED_FACE] * 2)
        metrics = (await client.get("/metrics")).text

    rows = answer.json()["results"]
    refused = [row["problem"]["type"] for row in rows if row["problem"]]
    assert refused == [NAMESPACE + "overloaded"] * 3
    assert [bool(row["prediction"]) for row in rows] == [True, True, False, False, False]
    assert all(row["prediction"] for row in again.json()["results"])  # every place was given back
    assert 'manet_shed_total{reason="images"} 3.0' in metrics
    assert "manet_images_in_flight 0.0" in metrics


async def test_a_hundred_images_do_not_keep_a_single_one_waiting() -> None:
    backend = FakeBackend(seconds=0.01)
    backend.gate.clear()
    async with running(make_app(backend, max_batch_size=4, workers=2)) as client:
        held = asyncio.create_task(post(client, RED_FACE))
        await until(backend.entered)
        many = asyncio.create_task(post_many(client, [RED_FACE] * 60, faces="whole"))
        while "manet_queue_depth 60.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        one = asyncio.create_task(post(client, BLUE_FACE))
        while "manet_queue_depth 61.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        backend.gate.set()
        done, _ = await asyncio.wait({many, one}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {one}
        await asyncio.gather(held, many, one)

    assert one.result().json()["faces"][0]["expression"] == BLUE
    assert len(many.result().json()["results"]) == 60


async def test_a_face_that_the_network_fails_on_spoils_its_own_row_only() -> None:
    backend = FakeBackend()
    backend.poison = 7
    async with running(make_app(backend)) as client:
        answer = await post_many(client, [RED_FACE, encode(paint((7, 0, 255), (7, 0, 255))), RED_FACE], faces="whole")

    kinds = [row["problem"] and row["problem"]["type"] for row in answer.json()["results"]]
    assert kinds == [None, NAMESPACE + "face-failed", None]
