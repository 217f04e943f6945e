"""Compression: the content codings gzip and deflate (RFC 9110, section 8.4.1), bounded where bytes are unpacked."""

import gzip
import re
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from service.errors import MalformedRequestError, PayloadTooLargeError, UnsupportedEncodingError

_ALIASES = {"": "identity", "x-gzip": "gzip"}
"""Other names of a coding; the second is RFC 9110's, section 8.4.1.3."""

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
    named = header.strip().lower()
    named = _ALIASES.get(named, named)
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
    """Returns a body as it was before it was packed, piece by piece as it arrives.

    Args:
        coding: identity, gzip or deflate.
        limit: the most bytes that may come out; a bomb is refused before it goes off.
    """

    def __init__(self, coding: str, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._coding = coding
        self._inflater = None if coding == PLAIN else zlib.decompressobj(_WINDOWS[coding])

    def unpacked(self, chunk: bytes) -> bytes:
        """Take the next bytes in, and return what they were.

        Raises:
            PayloadTooLargeError: if more comes out than allowed.
            MalformedRequestError: if they are not in that coding.
        """
        content = chunk if self._inflater is None else self._inflated(self._inflater, chunk)
        self._size += len(content)
        if self._size > self._limit:
            raise PayloadTooLargeError(f"the body has more than {self._limit} bytes")
        return content

    def finish(self) -> None:
        """Hear that all has arrived.

        Raises:
            MalformedRequestError: if something is missing.
        """
        if self._inflater is not None and not self._inflater.eof:
            raise MalformedRequestError("the compressed body ends too early")

    def _inflated(self, inflater: "zlib._Decompress", chunk: bytes) -> bytes:
        content = bytearray()
        # One byte more than allowed is enough to know.
        while chunk and (left := self._limit + 1 - self._size - len(content)) > 0:
            if inflater.eof:
                inflater = self._inflater = self._next_member()
            try:
                content += inflater.decompress(chunk, left)
            except zlib.error:
                raise MalformedRequestError("the body is not compressed as its Content-Encoding says") from None
            chunk = inflater.unused_data
        return bytes(content)

    def _next_member(self) -> "zlib._Decompress":
        """Return what unpacks the bytes behind the end: gzip may have several members (RFC 1952, section 2.2)."""
        if self._coding != "gzip":
            raise MalformedRequestError("bytes follow the end of the compressed body")
        return zlib.decompressobj(_WINDOWS[self._coding])
