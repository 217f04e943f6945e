"""Memory: what a request held is free when it was answered, without a search of the collector's for cycles."""

import gc
import gzip
import socket
import tracemalloc
from collections.abc import Callable, Iterator

import httpx
import pytest

from testing.fakes import RED_FACE, make_app
from testing.live import Live, live, until

BODY = 200_000
"""Bytes of each body."""
ROUNDS = 100
FEW = 10
"""Bodies that may be alive in the end: what is kept for reuse, and what the test itself holds."""

PADDED = RED_FACE + bytes(BODY - len(RED_FACE))
"""An image with as much behind it: decoders do not look there."""


@pytest.fixture(scope="module")
def served() -> Iterator[Live]:
    with live(make_app(max_batch_images=4)) as served:
        yield served


def _image(content: bytes, field: str = "image") -> dict[str, tuple[str, bytes]]:
    return {field: ("x.png", content)}


def _cut_off(served: Live) -> None:
    """Send half of a body, and go."""
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {BODY}"
    )
    part = '--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    with served.connect() as connection:
        connection.sendall(f"{head}\r\n\r\n{part}".encode() + bytes(BODY // 2))
        until(lambda: served.state.admission.bytes > BODY // 4)
        connection.shutdown(socket.SHUT_RDWR)


def _post(path: str, status: int, **options: object) -> Callable[[Live], None]:
    def send(served: Live) -> None:
        answer = httpx.post(f"{served.address}{path}", timeout=60, **options)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text

    return send


def _deflated(served: Live) -> None:
    content = gzip.compress(b'{"inputs": "' + bytes(BODY), compresslevel=1)
    path = f"{served.address}/v2/models/ferplus/infer"
    assert httpx.post(path, content=content, headers={"Content-Encoding": "gzip"}, timeout=60).status_code == 400


REQUESTS: dict[str, Callable[[Live], None]] = {
    "an image": _post("/predict", 200, files=_image(PADDED)),
    "an image as a whole": _post("/predict?faces=whole", 200, files=_image(PADDED)),
    "many images": _post("/predict/batch", 200, files=[("images", PADDED)] * 2 + [("images", bytes(BODY))]),
    "no image": _post("/predict", 415, files=_image(bytes(BODY))),
    "a broken image": _post("/predict", 422, files=_image(RED_FACE[:40] + bytes(BODY))),
    "another field": _post("/predict", 422, files=_image(PADDED, "picture")),
    "two images": _post("/predict", 422, files=[("image", PADDED), ("image", PADDED)]),
    "no form": _post("/predict", 400, content=bytes(BODY), headers={"Content-Type": "multipart/form-data; boundary=b"}),
    "a tensor that is none": _post("/v2/models/ferplus/infer", 400, content=b'{"inputs": [' + b" " * BODY),
    "compressed": _deflated,
    "cut off": _cut_off,
}


@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_no_body_outlives_its_request(served: Live, request_of: Callable[[Live], None]) -> None:
    def run(times: int) -> int:
        for _ in range(times):
            request_of(served)
        until(served.at_rest)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    gc.collect()
    gc.disable()
    try:
        before = run(FEW)
        after = run(ROUNDS)
    finally:
        gc.enable()
        tracemalloc.stop()

    assert after - before < FEW * BODY
