"""Upload: pictures out of a multipart form (RFC 7578), held in memory only and for a bounded time."""

import asyncio
from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.admission import Upload
from service.errors import InvalidParameter, MalformedRequest, PayloadTooLarge, UploadTimedOut

_OTHER_PARTS = 7
"""Parts of a form, beside the pictures, that are read before it is refused."""


class _Form(MultiPartParser):
    """Starlette's parser without its habit of moving what is large to a file on disk, and sure of the form's end.

    What stands in the pictures' field is a file also where no file name says so, which some clients leave out.

    Args:
        request: whose body nobody has read yet.
        upload: what counts its bytes.
        field: the form field that carries the pictures.
        limit: the most bytes of body.
        files: the most files.
    """

    spool_max_size = 0  # to a SpooledTemporaryFile, 0 means that it never rolls over

    def __init__(self, request: Request, upload: Upload, field: str, *, limit: int, files: int) -> None:
        body = self._body(request, upload, limit)
        super().__init__(request.headers, body, max_files=files, max_fields=_OTHER_PARTS)
        self._ended = False
        self._field = field.encode()

    def on_headers_finished(self) -> None:
        """Begin a part."""
        disposition = self._current_part.content_disposition or b""
        if b"filename=" not in disposition.lower():  # parsing costs more than looking
            _, options = parse_options_header(disposition)
            if options.get(b"name") == self._field:
                self._current_part.content_disposition = b'form-data; name="%b"; filename=""' % self._field
        super().on_headers_finished()

    def on_end(self) -> None:
        """Note that the last boundary was seen."""
        self._ended = True

    async def _body(self, request: Request, upload: Upload, limit: int) -> AsyncGenerator[bytes, None]:
        """Yield the body, and stop reading as soon as it is larger than the limit."""
        async for chunk in request.stream():
            if upload.size + len(chunk) > limit:
                raise PayloadTooLarge(f"the body has more than {limit} bytes")
            upload.add(len(chunk))
            yield chunk
        if not self._ended:
            raise MultiPartException("the form has no end")


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
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise MalformedRequest("the body is not multipart/form-data")
    parser = _Form(request, upload, field, limit=limit, files=most + _OTHER_PARTS)
    try:
        async with asyncio.timeout(seconds):
            form = await parser.parse()
    except TimeoutError:
        raise UploadTimedOut(f"the body did not arrive within {seconds:g} seconds") from None
    except MultiPartException as error:
        raise MalformedRequest(error.message) from None
    except ValueError:  # UnicodeError, and what codecs.lookup has to say of a name with a null in it
        raise MalformedRequest("the form is not in the charset that it names") from None
    files = [part for part in form.getlist(field) if isinstance(part, UploadFile)]
    try:
        if not 1 <= len(files) <= most:
            expected = "one file" if most == 1 else f"1 to {most} files"
            raise InvalidParameter(f"expected {expected} in the form field {field!r}, found {len(files)}")
        return [await file.read() for file in files]
    finally:
        await form.close()
