"""Targets: what is fuzzed, and what may come out of it; anything else is a finding."""

import asyncio
import functools
import zlib
from collections.abc import AsyncIterator, Callable, Mapping

import numpy as np
from starlette.requests import Request
from starlette.types import Message

from manet.errors import ImageError
from manet.vision.images import ImageLimits, read_crop, read_image
from manet.vision.preprocess import Preprocessing
from service.admission import Admission, AdmissionLimits
from service.clock import SystemClock
from service.errors import ServiceError
from service.http.upload import read_images

_LIMITS = ImageLimits(max_bytes=1_000_000, max_pixels=200_000)
_SIDE = 40
_SPEC = Preprocessing(input_size=_SIDE, colour="grey", detail_size=12)
_PNG = b"\x89PNG\r\n\x1a\n"


def decode(data: bytes) -> None:
    """Any bytes are pixels within the limits, of one size as an image and as a crop, or a ``ImageError``."""
    try:
        crop = read_crop(data, _SPEC, limits=_LIMITS)
        found = read_image(data, limits=_LIMITS)
    except ImageError:
        return
    height, width, channels = found.shape
    assert (crop.width, crop.height, crop.pixels.shape) == (width, height, (_SIDE, _SIDE, 3)), crop
    assert found.dtype == np.uint8, found.dtype
    assert channels == 3, found.shape
    assert 1 <= width * height <= _LIMITS.max_pixels, found.shape


def with_sums(data: bytes) -> bytes:
    """Return a PNG with the checksum of each chunk put right, so that a mutation reaches what is behind the check."""
    if not data.startswith(_PNG):
        return data
    mended, position = bytearray(data), len(_PNG)
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        if end + 4 > len(data):
            break
        mended[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4)
        position = end + 4
    return bytes(mended)


class _Engine:
    alive, reason = True, ""

    def expected_wait(self, ahead: int = 0) -> float:
        return 0.0


class _NoOne:
    def shed(self, reason: str) -> None:
        pass


@functools.cache
def _runner() -> asyncio.Runner:
    """Return one loop for all runs: to make one costs more than a run."""
    return asyncio.Runner()


def multipart(data: bytes) -> None:
    """Any header and body are images that the body holds, or a ``ServiceError``; and no byte of it stays counted.

    Args:
        data: a byte that says how large the pieces are in which the body arrives, the content type up to the end of
            the line, and the body.
    """
    head, _, body = data[1:].partition(b"\n")
    piece = 1 + 4 * (data[0] if data else 0)
    admission = Admission(
        AdmissionLimits(uploads=1, images=1, bytes=100_000, deadline=1.0),
        engine=_Engine(),
        clock=SystemClock(),
        observer=_NoOne(),
    )
    for image in _runner().run(_received(admission, head, body, piece)):
        assert image in body, "an image that no one sent"
    assert admission.bytes == admission.uploads == 0, "a body that is gone is still counted"


async def _received(admission: Admission, head: bytes, body: bytes, piece: int) -> list[bytes]:
    arriving = _pieces(body, piece)

    async def receive() -> Message:
        return await anext(arriving)

    headers = [(b"content-type", head.replace(b"\r", b""))]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    try:
        with admission.receive(0) as upload:
            return await read_images(request, upload, "image", most=3, limit=50_000, seconds=10)
    except ServiceError:
        return []


async def _pieces(body: bytes, piece: int) -> AsyncIterator[Message]:
    for start in range(0, len(body), piece):
        yield {"type": "http.request", "body": body[start : start + piece], "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}


TARGETS: Mapping[str, Callable[[bytes], None]] = {"decode": decode, "multipart": multipart}
