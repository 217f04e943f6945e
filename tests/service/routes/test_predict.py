"""``POST /predict``: the way of an image through the whole service."""

import asyncio

import pytest
from PIL import Image

from manet.vision.faces import DetectedFace
from manet.vision.preprocess import Pixels
from testing.fakes import (
    BLUE,
    GREEN,
    NO_FACE,
    RED,
    RED_FACE,
    WEIGHTS,
    FakeBackend,
    FakeDetector,
    encode,
    make_app,
    paint,
    post,
    running,
    until,
)
from tests.service.test_problems import check

pytestmark = pytest.mark.anyio


async def test_a_face_is_answered_as_the_contract_says() -> None:
    async with running(make_app()) as client:
        answer = await post(client, RED_FACE)

    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == "ferplus"
    assert body["image"] == {"width": 64, "height": 48}
    [face] = body["faces"]
    assert face["box"] == {"x": 0, "y": 0, "width": 32, "height": 48}
    assert face["detection_confidence"] == 0.75
    assert set(face["landmarks"]) == {"left_eye", "right_eye", "nose", "left_mouth", "right_mouth"}
    assert face["expression"] == RED
    assert list(face["probabilities"]) == list(WEIGHTS.classes)
    assert sum(face["probabilities"].values()) == pytest.approx(1)
    assert face["confidence"] == face["probabilities"][RED]


async def test_every_face_is_answered_or_as_many_as_requested() -> None:
    data = encode(paint((255, 0, 0), (0, 0, 255)))
    async with running(make_app(max_faces=2)) as client:
        both, one = await post(client, data), await post(client, data, max_faces=1)

    assert [face["expression"] for face in both.json()["faces"]] == [RED, BLUE]
    assert [face["expression"] for face in one.json()["faces"]] == [RED]


class _Noting(FakeDetector):
    """A detector that notes whether small faces were requested."""

    def __init__(self) -> None:
        self.small: list[bool] = []

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        self.small.append(small_faces)
        return super().detect(image, small_faces=small_faces)


async def test_small_faces_are_requested_by_a_mode() -> None:
    detector = _Noting()
    async with running(make_app(detector=detector)) as client:
        answers = [await post(client, RED_FACE, faces=mode) for mode in ("detect", "small", "whole")]
        rows = await client.post("/predict/batch?faces=small", files=[("images", ("a.png", RED_FACE))])

    assert [answer.status_code for answer in (*answers, rows)] == [200] * 4
    assert detector.small == [False, True, True]


async def test_faces_beyond_the_bound_are_counted_and_not_cut_in_silence() -> None:
    data = encode(paint((255, 0, 0), (0, 0, 255)))
    async with running(make_app(max_faces=1)) as client:
        detected, whole = await post(client, data), await post(client, data, faces="whole")
        rows = await client.post("/predict/batch", files=[("images", ("a.png", data))])
        none = await post(client, encode(paint((0, 0, 0))))

    assert (len(detected.json()["faces"]), detected.json()["faces_total"]) == (1, 2)
    assert [row["prediction"]["faces_total"] for row in rows.json()["results"]] == [2]
    assert (whole.json()["faces_total"], none.json()["faces_total"]) == (1, 0)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/explain"])
async def test_more_faces_than_the_server_answers_are_refused_with_the_bound(path: str) -> None:
    async with running(make_app(max_faces=2)) as client:
        answer = await client.post(path, params={"max_faces": 3}, files={"image": RED_FACE, "images": RED_FACE})

    check(answer, 422, "invalid-parameter", "max_faces: this server answers at most 2 faces")


async def test_no_face_is_an_empty_list_and_costs_the_network_nothing() -> None:
    backend = FakeBackend()
    async with running(make_app(backend)) as client:
        answer = await post(client, NO_FACE)

    assert (answer.status_code, answer.json()["faces"]) == (200, [])
    assert backend.batches == []


async def test_a_whole_image_is_one_face_without_a_place() -> None:
    async with running(make_app()) as client:
        answer = await post(client, encode(paint((0, 255, 0), (0, 255, 0))), faces="whole")

    [face] = answer.json()["faces"]
    assert face["expression"] == GREEN
    assert face["box"] is face["landmarks"] is face["detection_confidence"] is None


def _with_exif(orientation: int) -> bytes:
    """Return an image that is red on the left once it is turned as its EXIF says: here by a half turn."""
    turned = paint((255, 0, 0)).transpose(Image.Transpose.ROTATE_180)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(turned, "JPEG", exif=exif, quality=95)


ODD = {
    "jpeg": encode(paint((255, 0, 0)), "JPEG", quality=95),
    "webp": encode(paint((255, 0, 0)), "WEBP", lossless=True),
    "bmp": encode(paint((255, 0, 0)), "BMP"),
    "upside down by exif": _with_exif(3),
    "palette": encode(paint((255, 0, 0)).quantize(4)),
    "rgba": encode(paint((255, 0, 0)).convert("RGBA")),
    "cmyk": encode(paint((255, 0, 0)).convert("CMYK"), "JPEG", quality=95),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
async def test_every_kind_of_image_gives_the_same_answer(data: bytes) -> None:
    async with running(make_app()) as client:
        answer = await post(client, data)

    [face] = answer.json()["faces"]
    assert (face["expression"], face["box"]["x"]) == (RED, 0)


@pytest.mark.parametrize("mode", ["L", "I;16", "1"])
async def test_images_without_colour_are_answered(mode: str) -> None:
    grey = Image.new("L", (64, 48), 200)
    image = grey.convert("I").point(lambda value: value * 257).convert("I;16") if mode == "I;16" else grey.convert(mode)
    async with running(make_app()) as client:
        answer = await post(client, encode(image), faces="whole")

    [face] = answer.json()["faces"]
    red, green, blue = (face["probabilities"][name] for name in (RED, GREEN, BLUE))
    assert red == pytest.approx(green) == pytest.approx(blue)
    assert red > face["probabilities"][WEIGHTS.classes[3]] * 10


async def test_while_the_network_works_the_next_batch_grows() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    async with running(make_app(backend)) as client:
        first = asyncio.create_task(post(client, RED_FACE))
        await until(backend.entered)
        others = [asyncio.create_task(post(client, RED_FACE)) for _ in range(7)]
        while "manet_queue_depth 7.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        backend.gate.set()
        answers = await asyncio.gather(first, *others)
        metrics = (await client.get("/metrics")).text

    assert all(answer.status_code == 200 for answer in answers)
    assert backend.batches == [1, 7]
    assert 'manet_batch_size_bucket{le="1.0"} 1.0' in metrics
    assert "manet_batch_size_sum 8.0" in metrics
    assert "manet_faces_total 8.0" in metrics


async def test_thirty_two_at_once_get_what_one_after_another_gets() -> None:
    uploads = [encode(paint((shade, 255 - shade, shade // 2))) for shade in range(20, 255, 7)][:32]
    assert len(uploads) == 32
    backend = FakeBackend(seconds=0.01)
    async with running(make_app(backend)) as client:
        alone = [(await post(client, data)).json() for data in uploads]
        assert set(backend.batches) == {1}
        together = await asyncio.gather(*(post(client, data) for data in uploads))

    assert max(backend.batches) > 1
    for one, other in zip(alone, together, strict=True):
        [first], [second] = one["faces"], other.json()["faces"]
        assert second["probabilities"] == pytest.approx(first["probabilities"], abs=1e-4)
