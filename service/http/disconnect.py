"""Connection: work that is done for a client only as long as it is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the outcome of some work, unless the client disconnects first: then the work is cancelled.

    The work is done in the caller's own task, as under ``asyncio.timeout``: only the watcher is a task more.

    Args:
        request: whose body was read to its end.
        work: what is done for it.

    Raises:
        ClientDisconnect: if the client disconnected.
    """
    working = asyncio.current_task()
    assert working is not None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        working.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if left and working.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()
