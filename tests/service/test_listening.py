"""Listening: connections are taken faster than the loop goes round."""

import asyncio
import contextlib
import threading

from service.server import LISTENERS, server
from service.settings import Settings
from testing.fakes import make_app
from testing.live import Live, running_in_a_thread

CLIENTS = 64


def test_many_clients_that_come_at_once_are_taken_in_few_rounds() -> None:
    app = make_app()
    serving = server(app, Settings(port=0))
    with running_in_a_thread(serving), contextlib.ExitStack() as clients:
        served = Live(app, serving)
        loop, connected = serving.servers[0].get_loop(), list[int]()
        held, come = threading.Event(), threading.Event()

        async def watch() -> None:
            held.set()
            assert come.wait(20)
            while not connected or connected[-1] < CLIENTS:
                await asyncio.sleep(0)
                connected.append(served.connected)

        watching = asyncio.run_coroutine_threadsafe(watch(), loop)
        assert held.wait(20)
        for _ in range(CLIENTS):
            clients.enter_context(served.connect())
        come.set()
        watching.result(20)

    rounds = sum(count > 0 for count in connected)
    assert rounds <= CLIENTS / LISTENERS + 2
