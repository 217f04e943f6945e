"""Body: what a request carries, read whole into memory, bounded in size and time, and unpacked on the way."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request

from service.admission import Upload
from service.errors import PayloadTooLargeError, UploadTimedOutError
from service.http.compression import PLAIN, Decompressor, coding_of


def largest_size(request: Request, limit: int) -> int:
    """Return the most bytes that a request's body can have: its stated length, or the limit where it states none.

    Raises:
        PayloadTooLargeError: if it states more than the limit.
    """
    stated = request.headers.get("content-length", "")
    if not stated.isdigit():
        return limit
    if int(stated) > limit:
        raise PayloadTooLargeError(f"the body has {int(stated)} bytes; at most {limit} are read")
    return int(stated)


def size_in_memory(request: Request, limit: int) -> int:
    """Return the most bytes that a request's body can take: its length where it states one and is not compressed.

    Raises:
        PayloadTooLargeError: if it states more than the limit.
        UnsupportedEncodingError: if it is compressed in a way that is not read.
    """
    stated = largest_size(request, limit)
    return stated if coding_of(request.headers.get("content-encoding", "")) == PLAIN else limit


async def receive(
    request: Request, upload: Upload, take: Callable[[bytes], object], *, limit: int, seconds: float
) -> None:
    """Hand a request's body to ``take``, unpacked, piece by piece as it arrives.

    Args:
        request: whose body no one has read yet.
        upload: what counts its bytes, unpacked.
        take: is given the pieces.
        limit: the most bytes, unpacked; more are refused while they are still being sent.
        seconds: in which all of it must have arrived.

    Raises:
        UnsupportedEncodingError: if it is compressed in a way that is not read.
        ClientDisconnect: if the client disconnected.
        PayloadTooLargeError: if it is larger than the limit.
        OverloadedError: if there is no room for it in memory.
        MalformedRequestError: if it is not compressed as it says.
        UploadTimedOutError: if it did not arrive in time.
    """
    unpacker = Decompressor(coding_of(request.headers.get("content-encoding", "")), limit)
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                content = unpacker.unpacked(chunk)
                upload.add(len(content))
                take(content)
    except TimeoutError:
        raise UploadTimedOutError(f"the body did not arrive within {seconds:g} seconds") from None
    unpacker.finish()


async def read_body(request: Request, upload: Upload, *, limit: int, seconds: float) -> bytearray:
    """Return a request's body, unpacked; arguments and errors are those of ``receive``."""
    body = bytearray()
    await receive(request, upload, body.extend, limit=limit, seconds=seconds)
    return body
