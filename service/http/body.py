"""Body: what a request carries, read whole into memory, bounded in size and time, and unpacked on the way."""

from starlette.requests import Request

from service.admission import Upload
from service.compression import PLAIN, Unpacker, coding_of
from service.upload import largest_size, receive


def size_in_memory(request: Request, limit: int) -> int:
    """Return the most bytes that a request's body can take: its length where it states one and is not compressed.

    Raises:
        PayloadTooLarge: if it states more than the limit.
        UnsupportedEncoding: if it is compressed in a way that is not read.
    """
    stated = largest_size(request, limit)
    return stated if coding_of(request.headers.get("content-encoding", "")) == PLAIN else limit


async def read_body(request: Request, upload: Upload, *, limit: int, seconds: float) -> bytearray:
    """Return a request's body, unpacked.

    Args:
        request: whose body nobody has read yet.
        upload: what counts its bytes, unpacked.
        limit: the most bytes, unpacked; more are refused while they are still being sent.
        seconds: in which all of it must have arrived.

    Raises:
        UnsupportedEncoding: if it is compressed in a way that is not read.
        ClientDisconnect: if the client hung up.
        PayloadTooLarge: if it is larger than the limit.
        Overloaded: if there is no room for it in memory.
        MalformedRequest: if it is not compressed as it says.
        UploadTimedOut: if it did not arrive in time.
    """
    unpacker = Unpacker(coding_of(request.headers.get("content-encoding", "")), limit)

    def take(chunk: bytes) -> None:
        unpacker.add(chunk)
        upload.add(len(unpacker.content) - upload.size)

    await receive(request, take, seconds)
    return unpacker.finish()
