"""Compression: the content codings gzip and deflate (RFC 9110, section 8.4.1), bounded where bytes are unpacked."""

import gzip
import re
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from service.errors import MalformedRequestError, PayloadTooLargeError, UnsupportedEncodingError

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_PACKERS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {"gzip": lambda content: gzip.compress(content, 1, mtime=0), "deflate": lambda content: zlib.compress(content, 1)}
)
_NEVER = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")

PLAIN = "identity"
"""The coding of bytes that are as they are."""


def coding_of(header: str) -> str:
    """Return the coding that a ``Content-Encoding`` names.

    Raises:
        UnsupportedEncodingError: if it is none of identity, gzip and deflate, or several one after the other.
    """
    named = header.strip().lower() or PLAIN
    if named not in {PLAIN, *_WINDOWS}:
        raise UnsupportedEncodingError(
            "the content encodings that are read are identity, gzip and deflate, one at a time"
        )
    return named


def preferred(header: str) -> str:
    """Return the coding to answer with, by an ``Accept-Encoding``: the first that it lists and that is known here."""
    for item in header.lower().split(","):
        name, _, weight = item.partition(";")
        if name.strip() in _PACKERS and not _NEVER.fullmatch(weight):
            return name.strip()
    return PLAIN


def pack(content: bytes, coding: str) -> bytes:
    """Return the content in a coding."""
    return content if coding == PLAIN else _PACKERS[coding](content)


class Decompressor:
    """Takes a body in as it arrives, and holds it as it was before it was packed.

    Args:
        coding: identity, gzip or deflate.
        limit: the most bytes that may come out; a bomb is refused before it goes off.
    """

    def __init__(self, coding: str, limit: int) -> None:
        self.content = bytearray()
        self._limit = limit
        self._inflater = None if coding == PLAIN else zlib.decompressobj(_WINDOWS[coding])

    def add(self, chunk: bytes) -> None:
        """Take the next bytes in.

        Raises:
            PayloadTooLargeError: if more comes out than allowed.
            MalformedRequestError: if they are not in that coding.
        """
        if self._inflater is None:
            self.content += chunk[: self._limit + 1 - len(self.content)]
        else:
            self._inflate(self._inflater, chunk)
        if len(self.content) > self._limit:
            raise PayloadTooLargeError(f"the body has more than {self._limit} bytes")

    def finish(self) -> bytearray:
        """Return the content once all has arrived.

        Raises:
            MalformedRequestError: if something is missing.
        """
        if self._inflater is not None and not self._inflater.eof:
            raise MalformedRequestError("the compressed body ends too early")
        return self.content

    def _inflate(self, inflater: "zlib._Decompress", chunk: bytes) -> None:
        try:
            # One byte more than allowed is enough to know.
            self.content += inflater.decompress(chunk, self._limit + 1 - len(self.content))
        except zlib.error:
            raise MalformedRequestError("the body is not compressed as its Content-Encoding says") from None
        if inflater.unused_data:
            raise MalformedRequestError("bytes follow the end of the compressed body")
