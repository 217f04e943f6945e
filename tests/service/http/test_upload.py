"""Ways to send an image beside a form: bare, in JSON, compressed, under another name; each as bounded as a form."""

import base64
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable

import pytest

from service.http.multipart import ImageForm
from testing.fakes import NO_FACE, RED_FACE, make_app, post, running
from tests.service.http.test_bad_input import FORM, check, form, part

pytestmark = pytest.mark.anyio

RED_TEXT = base64.b64encode(RED_FACE).decode()
JSON = "application/json"


def encoded(text: object) -> bytes:
    """Return JSON with that image."""
    return json.dumps({"image": text}).encode()


SENT = {
    # content type and body
    "image/png": ("image/png", RED_FACE),
    "the wrong type": ("image/jpeg", RED_FACE),
    "any bytes": ("application/octet-stream", RED_FACE),
    "a type with a parameter": ("Image/PNG; name=face.png", RED_FACE),
    "base64": (JSON, encoded(RED_TEXT)),
    "base64 in lines": (f"{JSON}; charset=utf-8", encoded(base64.encodebytes(RED_FACE).decode())),
    "base64 for URLs": (JSON, encoded(base64.urlsafe_b64encode(RED_FACE).decode().rstrip("="))),
    "a data URI": (JSON, encoded(f"data:image/png;base64,{RED_TEXT}")),
    "a bare data URI": (JSON, encoded(f"data:;base64,{RED_TEXT}")),
    "after a byte order mark": (JSON, b"\xef\xbb\xbf" + encoded(RED_TEXT)),
    "after a blank": (JSON, encoded(f" data:image/png;base64,{RED_TEXT}")),
    "another member": (JSON, json.dumps({"name": "face.png", "image": RED_TEXT}).encode()),
}


@pytest.mark.parametrize(("kind", "body"), SENT.values(), ids=SENT)
async def test_an_image_that_is_sent_without_a_form_is_answered_as_in_one(kind: str, body: bytes) -> None:
    async with running(make_app()) as client:
        answer = await client.post("/predict", content=body, headers={"content-type": kind})
        wanted = await post(client, RED_FACE)
        metrics = (await client.get("/metrics")).text

    assert (answer.status_code, answer.json()) == (200, wanted.json())
    assert "manet_images_in_flight 0.0" in metrics


REFUSED = {
    # content type, body, status, problem, words of the detail
    "no image": ("image/png", b"", 422, "broken-image", "0 bytes"),
    "a text": ("image/png", b"dear diary", 415, "unsupported-image", "supported: JPEG"),
    "a form of letters": ("application/x-www-form-urlencoded", b"image=x", 400, "malformed-request", "image/*"),
    "a text by its type": ("text/plain", RED_FACE, 400, "malformed-request", "application/json"),
    "no JSON": (JSON, b'{"image": ', 400, "malformed-request", "not JSON"),
    "deep JSON": (JSON, b'{"image": ' + b"[" * 100_000, 400, "malformed-request", "not JSON"),
    "a list": (JSON, b"[1]", 422, "invalid-parameter", "image: "),
    "no member": (JSON, b'{"picture": ""}', 422, "invalid-parameter", "image: Field required"),
    "a number": (JSON, encoded(7), 422, "invalid-parameter", "image: Input should be a valid string"),
    "a URL": (JSON, encoded("https://example.org/face.jpg"), 422, "invalid-parameter", "URLs are not fetched"),
    "a file's URL": (JSON, encoded("file:///etc/passwd"), 422, "invalid-parameter", "URLs are not fetched"),
    "a URL after a blank": (JSON, encoded(" https://example.org/x"), 422, "invalid-parameter", "URLs are not fetched"),
    "a URL without a scheme": (JSON, encoded("//example.org/x"), 422, "invalid-parameter", "URLs are not fetched"),
    "a file's URL without an authority": (JSON, encoded("file:/etc/passwd"), 422, "invalid-parameter", "not fetched"),
    "a data URI without an end": (JSON, encoded("data:image/png;base64"), 422, "invalid-parameter", "not base64"),
    "no base64": (JSON, encoded("dear diary!"), 422, "invalid-parameter", "not base64"),
    "letters from afar": (JSON, encoded("ähnlich"), 422, "invalid-parameter", "not base64"),
    "one letter": (JSON, encoded("a"), 422, "invalid-parameter", "not base64"),
    "another data URI": (JSON, encoded("data:image/svg+xml,%3Csvg/%3E"), 422, "invalid-parameter", "not in base64"),
    "an empty text": (JSON, encoded(""), 422, "broken-image", "0 bytes"),
}


@pytest.mark.parametrize(("kind", "body", "status", "problem", "words"), REFUSED.values(), ids=REFUSED)
async def test_what_is_no_image_however_it_is_sent(
    kind: str, body: bytes, status: int, problem: str, words: str
) -> None:
    async with running(make_app()) as client:
        answer = await client.post("/predict", content=body, headers={"content-type": kind})

    check(answer, status, problem, words)
    for secret in ("diary", "passwd", "example.org"):
        assert secret not in answer.text


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", JSON, FORM])
async def test_every_way_is_bounded_in_bytes_while_it_arrives(kind: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield bytes(10_000)
        raise AssertionError("all of it was read")

    async with running(make_app(max_upload_bytes=100_000)) as client:
        stated = await client.post("/predict", content=bytes(100_001), headers={"content-type": kind})
        if kind != FORM:  # which is refused for its first bytes
            arriving = await client.post("/predict", content=endless(), headers={"content-type": kind})
            check(arriving, 413, "payload-too-large", "more than 100000 bytes")
        metrics = (await client.get("/metrics")).text

    check(stated, 413, "payload-too-large", "100001 bytes; at most 100000")
    assert "manet_images_in_flight 0.0" in metrics


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
GOOD = form(part("image"))


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("kind", ["a form", "bare", "JSON"])
async def test_a_compressed_body_is_unpacked(kind: str, coding: str) -> None:
    sent = {"a form": (FORM, GOOD), "bare": ("image/png", RED_FACE), "JSON": (JSON, encoded(RED_TEXT))}
    media_type, body = sent[kind]
    async with running(make_app()) as client:
        head = {"content-type": media_type, "content-encoding": coding}
        answer = await client.post("/predict", content=PACKERS[coding](body), headers=head)
        wanted = await post(client, RED_FACE)

    assert (answer.status_code, answer.json()) == (200, wanted.json())


async def test_compressed_forms_of_many_images_and_for_explanations_are_unpacked() -> None:
    head = {"content-type": FORM, "content-encoding": "gzip"}
    both = gzip.compress(form(part("images"), part("images", NO_FACE)))
    async with running(make_app()) as client:
        rows = await client.post("/predict/batch", content=both, headers=head)
        broken = await client.post("/explain", content=gzip.compress(form(part("image", b"text"))), headers=head)

    assert [len(row["prediction"]["faces"]) for row in rows.json()["results"]] == [1, 0]
    check(broken, 415, "unsupported-image", "supported: JPEG")


async def test_gzip_may_have_several_members() -> None:
    head = {"content-type": FORM, "content-encoding": "gzip"}
    members = [GOOD[at : at + 50] for at in range(0, len(GOOD), 50)]
    packed = b"".join(gzip.compress(member) for member in [b"", *members, b""])

    async def in_pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(packed), 7):
            yield packed[at : at + 7]

    async with running(make_app()) as client:
        answers = [await client.post("/predict", content=sent, headers=head) for sent in (packed, in_pieces())]

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_members_of_gzip_have_one_bound_together() -> None:
    member = gzip.compress(bytes(400_000))
    async with running(make_app(max_upload_bytes=1_000_000)) as client:
        head = {"content-type": "image/png", "content-encoding": "gzip"}
        answer = await client.post("/predict", content=member * 3, headers=head)

    check(answer, 413, "payload-too-large", "more than 1000000 bytes")


async def test_a_coding_may_have_its_older_name() -> None:
    head = {"content-type": FORM, "content-encoding": "X-GZip"}
    async with running(make_app()) as client:
        answer = await client.post("/predict", content=gzip.compress(GOOD), headers=head)

    assert answer.status_code == 200


CODED = {
    # content encoding, body, status, problem, words of the detail
    "another coding": ("br", GOOD, 415, "unsupported-encoding", "gzip and deflate"),
    "two codings": ("gzip, gzip", GOOD, 415, "unsupported-encoding", "one at a time"),
    "not as it says": ("gzip", GOOD, 400, "malformed-request", "Content-Encoding"),
    "cut short": ("gzip", gzip.compress(GOOD)[:-9], 400, "malformed-request", "too early"),
    "cut short in a second member": (
        "gzip",
        gzip.compress(GOOD) + gzip.compress(b"x")[:-1],
        400,
        "malformed-request",
        "early",
    ),
    "trailing": ("gzip", gzip.compress(GOOD) + b"more", 400, "malformed-request", "Content-Encoding"),
    "trailing deflate": ("deflate", zlib.compress(GOOD) + b"more", 400, "malformed-request", "bytes follow"),
}


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/explain"])
@pytest.mark.parametrize(("coding", "body", "status", "problem", "words"), CODED.values(), ids=CODED)
async def test_what_is_not_compressed_as_it_says(
    *, path: str, coding: str, body: bytes, status: int, problem: str, words: str
) -> None:
    async with running(make_app()) as client:
        head = {"content-type": FORM, "content-encoding": coding}
        answer = await client.post(path, content=body, headers=head)

    check(answer, status, problem, words)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        *[(path, FORM) for path in ("/predict", "/predict/batch", "/explain")],
        *[("/predict", media_type) for media_type in ("image/png", JSON)],
    ],
)
async def test_a_bomb_is_refused_before_it_goes_off(path: str, media_type: str, pack: Callable[[bytes], bytes]) -> None:
    field = "images" if path == "/predict/batch" else "image"
    body = form(part(field, bytes(30_000_000))) if media_type == FORM else bytes(30_000_000)
    bomb = pack(body)
    assert len(bomb) < 100_000
    coding = "gzip" if bomb.startswith(b"\x1f\x8b") else "deflate"
    async with running(make_app(max_upload_bytes=1_000_000, max_batch_bytes=1_000_000)) as client:
        head = {"content-type": media_type, "content-encoding": coding}
        answer = await client.post(path, content=bomb, headers=head)
        metrics = (await client.get("/metrics")).text

    check(answer, 413, "payload-too-large", "more than 1000000 bytes")
    assert "manet_images_in_flight 0.0" in metrics


async def test_many_images_may_come_under_the_name_with_brackets() -> None:
    names = ["images[]", "images", "images[0]", "images[17]"]
    async with running(make_app()) as client:
        many = await client.post("/predict/batch", files=[(name, ("a.png", RED_FACE)) for name in names])
        one = await client.post("/predict", files={"image[]": ("a.png", RED_FACE)})

    assert [len(row["prediction"]["faces"]) for row in many.json()["results"]] == [1, 1, 1, 1]
    check(one, 422, "invalid-parameter", "'image', found 0, and 1 in other fields")


def test_an_image_under_either_name_is_kept_in_order() -> None:
    taken = ImageForm(FORM, "images", most=2)
    taken.write(form(part("images[]", b"1"), part("images[x]", b"2"), part("images", b"3")))

    assert (taken.finish(), taken.others) == ([b"1", b"3"], 1)
