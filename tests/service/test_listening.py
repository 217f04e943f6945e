"""Listening: connections are taken faster than the loop goes round."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

from service.__main__ import LISTENERS, Server, server
from service.settings import Settings
from tests.service.fakes import make_app
from tests.service.live import until

CLIENTS = 64


@contextlib.contextmanager
def _serving() -> Iterator[Server]:
    serving = server(make_app(), Settings(port=0))
    thread = threading.Thread(target=serving.run, daemon=True)
    thread.start()
    try:
        until(lambda: serving.started)
        yield serving
    finally:
        serving.should_exit = True
        thread.join(20)
    assert not thread.is_alive(), "the server did not stop"


def test_many_clients_that_come_at_once_are_taken_in_few_rounds() -> None:
    with _serving() as serving, contextlib.ExitStack() as clients:
        port = serving.servers[0].sockets[0].getsockname()[1]
        loop, connected = serving.servers[0].get_loop(), list[int]()
        held, come = threading.Event(), threading.Event()

        async def watch() -> None:
            held.set()
            assert come.wait(20)
            while not connected or connected[-1] < CLIENTS:
                await asyncio.sleep(0)
                connected.append(len(serving.server_state.connections))

        watching = asyncio.run_coroutine_threadsafe(watch(), loop)
        assert held.wait(20)
        for _ in range(CLIENTS):
            clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        come.set()
        watching.result(20)

    rounds = sum(count > 0 for count in connected)
    assert rounds <= CLIENTS / LISTENERS + 2
