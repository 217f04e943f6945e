"""Upload: the images in a request's body, whichever way they were sent, held in memory only.

A form is taken apart as it arrives. One image may also be the body itself, or stand in JSON in base64.
"""

import asyncio
import base64
import codecs
import re
from contextlib import closing

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.admission import Upload
from service.errors import InvalidParameterError, MalformedRequestError
from service.http.body import read_body, receive
from service.http.multipart import MEDIA_TYPE, ImageForm
from service.schemas.predict import EncodedImage

OCTETS, JSON = "application/octet-stream", "application/json"
IMAGES = "image/*"
"""Any image's type; which it is, its bytes say."""

_URL = re.compile(r"\s*(?!data:)(?:[a-z][a-z0-9+.-]+:|//)", re.IGNORECASE)
_DATA = re.compile(r"\s*data:[^,]*?(;base64)?,", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


async def read_image(request: Request, upload: Upload, field: str, *, limit: int, seconds: float) -> bytes:
    """Return the bytes of the image in a request's body: of a form, of JSON, or the body itself.

    Args:
        request: whose body no one has read yet.
        upload: what counts its bytes, unpacked.
        field: the form field that carries the image, and the member of the JSON.
        limit: the most bytes of body, unpacked; more are refused while they are still being sent.
        seconds: in which the whole body must have arrived.

    Raises:
        ClientDisconnect: if the client disconnected.
        InvalidParameterError: if there is no image under that name, or more than one, or none in base64.
        MalformedRequestError: if the body is not of the type that it says, or of another type.
        OverloadedError: if there is no room for it in memory.
        PayloadTooLargeError: if the body is larger than the limit.
        UnsupportedEncodingError: if it is compressed in a way that is not read.
        UploadTimedOutError: if it did not arrive in time.
    """
    kind = _media_type(request)
    if kind == MEDIA_TYPE:
        [image] = await read_images(request, upload, field, most=1, limit=limit, seconds=seconds)
        return image
    if kind not in (JSON, OCTETS) and not kind.startswith("image/"):
        raise MalformedRequestError(f"the body is not {MEDIA_TYPE}, {IMAGES}, {OCTETS} or {JSON}")
    body = bytes(await read_body(request, upload, limit=limit, seconds=seconds))
    # Of a large body a good part of a second goes into the text.
    return await asyncio.to_thread(_decoded, body) if kind == JSON else body


async def read_images(
    request: Request, upload: Upload, field: str, *, most: int, limit: int, seconds: float
) -> list[bytes]:
    """Return the bytes of the images in a request's form, in their order.

    Args:
        request: whose body no one has read yet.
        upload: what counts its bytes, unpacked.
        field: the form field that carries them (see ``ImageForm``).
        most: images, at most.
        limit: the most bytes of body, unpacked; more are refused while they are still being sent.
        seconds: in which the whole body must have arrived.

    Raises:
        ClientDisconnect: if the client disconnected.
        InvalidParameterError: if the form has no file under that name, or too many.
        MalformedRequestError: if the body is no multipart form, or has too many parts.
        OverloadedError: if there is no room for it in memory.
        PayloadTooLargeError: if the body is larger than the limit.
        UnsupportedEncodingError: if it is compressed in a way that is not read.
        UploadTimedOutError: if it did not arrive in time.
    """
    with closing(ImageForm(request.headers.get("content-type", ""), field, most=most)) as form:
        await receive(request, upload, form.write, limit=limit, seconds=seconds)
        images = form.finish()
    if not 1 <= len(images) <= most:
        expected = "one file" if most == 1 else f"1 to {most} files"
        elsewhere = f", and {form.others} in other fields" if form.others else ""
        raise InvalidParameterError(f"expected {expected} in the form field {field!r}, found {len(images)}{elsewhere}")
    return images


def _media_type(request: Request) -> str:
    kind, _ = parse_options_header(request.headers.get("content-type", ""))
    return kind.decode("latin-1")


def _decoded(body: bytes) -> bytes:
    """Return the image that stands in JSON, in base64 (RFC 4648) or as a data URI (RFC 2397)."""
    try:
        # Some clients begin with a byte order mark, which a reader may ignore (RFC 8259, section 8.1).
        text = EncodedImage.model_validate_json(body.removeprefix(codecs.BOM_UTF8)).image
    except ValidationError as error:
        [what, *_] = error.errors(include_input=False, include_context=False, include_url=False)
        if what["type"] == "json_invalid":
            raise MalformedRequestError("the body is not JSON") from None
        raise InvalidParameterError(f"image: {what['msg']}") from None
    uri = _DATA.match(text)
    if uri is not None and uri[1] is None:
        raise InvalidParameterError("image: the data URI is not in base64")
    try:
        # Of a large text few copies are made. Lines, the letters for URLs and what stands at the end are all in use.
        plain = text[uri.end() if uri else 0 :].encode("ascii").translate(_URL_SAFE, b" \t\r\n").rstrip(b"=")
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except ValueError:
        # What follows a scheme, and what stands in a path, is not base64: no image is taken for a URL.
        if uri is None and _URL.match(text):
            raise InvalidParameterError("image: URLs are not fetched; send the image itself, in base64") from None
        raise InvalidParameterError("image: the text is not base64") from None
