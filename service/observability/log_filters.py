"""Logging: the form of the log, and filters that keep what clients send, and what images hold, out of it."""

import logging
import warnings
from http import HTTPStatus
from typing import Any

from uvicorn.config import LOGGING_CONFIG

_UNKNOWN = (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
"""Statuses whose path may be anything that a client thought of."""


def logging_config(level: str, access: bool) -> dict[str, Any]:
    """Return uvicorn's logging with the service's own loggers beside it, to the same place in the same form."""
    ours = {"handlers": ["default"], "level": level.upper(), "propagate": False}
    requests = {**LOGGING_CONFIG["handlers"]["access"], "filters": ["paths"]}
    server = {**LOGGING_CONFIG["loggers"]["uvicorn.error"], "filters": ["frames"]}
    return {
        **LOGGING_CONFIG,
        "filters": {"paths": {"()": AccessLogRedactor}, "frames": {"()": WebSocketLogFilter, "access": access}},
        "handlers": {**LOGGING_CONFIG["handlers"], "access": requests},
        "loggers": {**LOGGING_CONFIG["loggers"], "uvicorn.error": server, "manet": ours},
    }


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
