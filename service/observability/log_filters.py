"""Log filters: what clients send, and what images hold, stays out of the log."""

import logging
import warnings
from http import HTTPStatus

_UNKNOWN = (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
"""Statuses whose path may be anything that a client thought of."""


class AccessLogRedactor(logging.Filter):
    """Keeps what a client wrote behind the ``?``, and paths that are none of ours, out of the access log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record of uvicorn's: client address, method, path, HTTP version, status."""
        match record.args:
            case (address, method, str(path), version, status):
                shown = "-" if status in _UNKNOWN else path.partition("?")[0]
                record.args = (address, method, shown, version, status)
        return True


class WebSocketLogFilter(logging.Filter):
    """Keeps what passes through websockets out of the log: at the level debug, every message and header would be there.

    Args:
        access: whether each handshake is a line; never with what stands behind the ``?`` of its path.
    """

    def __init__(self, access: bool) -> None:
        super().__init__()
        self._access = access

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop or shorten a record of the server's own."""
        if record.levelno <= logging.DEBUG:
            return False
        match record.args:
            case (address, str(path), *rest) if '"WebSocket %s"' in str(record.msg):
                record.args = (address, path.partition("?")[0] if "[accepted]" in record.msg else "-", *rest)
                return self._access
        return True


def silence_pillow_warnings() -> None:
    """Drop Pillow's warnings: they tell what stands in an image's metadata, and each new one is kept for ever."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
