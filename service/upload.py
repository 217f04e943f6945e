"""Upload: pictures in a request's form, received within bounds of size and time."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request

from service.admission import Upload
from service.errors import InvalidParameter, PayloadTooLarge, UploadTimedOut
from service.form import PictureForm


def largest_size(request: Request, limit: int) -> int:
    """Return the most bytes that a request's body can have: its stated length, or the limit where it states none.

    Raises:
        PayloadTooLarge: if it states more than the limit.
    """
    stated = request.headers.get("content-length", "")
    if not stated.isdigit():
        return limit
    if int(stated) > limit:
        raise PayloadTooLarge(f"the body has {int(stated)} bytes; at most {limit} are read")
    return int(stated)


async def receive(request: Request, take: Callable[[bytes], None], seconds: float) -> None:
    """Hand a request's body to ``take``, piece by piece as it arrives.

    Raises:
        ClientDisconnect: if the client hung up.
        UploadTimedOut: if it did not arrive in so many seconds.
    """
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                take(chunk)
    except TimeoutError:
        raise UploadTimedOut(f"the body did not arrive within {seconds:g} seconds") from None


async def read_pictures(
    request: Request, upload: Upload, field: str, *, most: int, limit: int, seconds: float
) -> list[bytes]:
    """Return the bytes of the pictures in a request's form, in their order.

    Args:
        request: whose body nobody has read yet.
        upload: what counts its bytes.
        field: the form field that carries them.
        most: pictures, at most.
        limit: the most bytes of body; more are refused while they are still being sent.
        seconds: in which the whole body must have arrived.

    Raises:
        ClientDisconnect: if the client hung up.
        MalformedRequest: if the body is no multipart form, or has too many parts.
        InvalidParameter: if the form has no file under that name, or too many.
        Overloaded: if there is no room for it in memory.
        PayloadTooLarge: if the body is larger than the limit.
        UploadTimedOut: if it did not arrive in time.
    """
    form = PictureForm(request.headers.get("content-type", ""), field, most=most)

    def take(chunk: bytes) -> None:
        if upload.size + len(chunk) > limit:
            raise PayloadTooLarge(f"the body has more than {limit} bytes")
        upload.add(len(chunk))
        form.write(chunk)

    await receive(request, take, seconds)
    pictures = form.finish()
    if not 1 <= len(pictures) <= most:
        expected = "one file" if most == 1 else f"1 to {most} files"
        raise InvalidParameter(f"expected {expected} in the form field {field!r}, found {len(pictures)}")
    return pictures
