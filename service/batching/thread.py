"""EngineThread: the one thread in which the engine is called."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class EngineThread:
    """Runs calls one after another, always in the same thread.

    A daemon, unlike an executor's threads: an engine that hangs cannot hold up the end of the process.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread.is_alive()

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a call and return its outcome as an awaitable."""
        outcome: Future[T] = Future()
        self._calls.put((outcome, call))
        return asyncio.wrap_future(outcome)

    def stop(self) -> None:
        """Let the thread end after the calls that are queued."""
        self._calls.put(None)

    def _work(self) -> None:
        while (task := self._calls.get()) is not None:
            outcome, call = task
            if outcome.set_running_or_notify_cancel():
                try:
                    outcome.set_result(_without_stop_iteration(call))
                except BaseException as error:  # whatever it was, it belongs to whoever waits
                    outcome.set_exception(error)
            # The thread may now sleep for long; it must not keep the last batch alive meanwhile.
            del task, outcome, call


def _without_stop_iteration(call: Callable[[], T]) -> T:
    """Make a call; an asyncio future takes no StopIteration, and whoever waits for it would wait for ever."""
    try:
        return call()
    except StopIteration as error:
        raise RuntimeError("the call raised StopIteration") from error
