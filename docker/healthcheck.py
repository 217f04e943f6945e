"""Health check of the images: exit status 0 if the service in this container is ready; no curl needed."""

import os
import sys
import urllib.error
import urllib.request
from http import HTTPStatus

SECONDS = 2.0

EVERY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where this machine answers if the service listens on all of its addresses."""


def ready(host: str, port: str) -> bool:
    """Return whether the service that listens there says that it answers."""
    address = EVERY.get(host, host)
    if ":" in address:
        address = f"[{address}]"
    try:
        # No proxy: the variables of a container are for the world outside.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{address}:{port}/health/ready", timeout=SECONDS) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(0 if ready(os.environ.get("MANET_HOST", ""), os.environ.get("MANET_PORT", "8000")) else 1)
