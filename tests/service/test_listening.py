"""Listening: connections are taken faster than the loop goes round."""

import asyncio
import contextlib
import socket
import threading

import httpx
import pytest

from service.processes.listener import bind
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


def test_sockets_are_duplicated_as_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def duplicate(_descriptor: int) -> int:
        raise OSError("on Windows a socket is no file descriptor")

    monkeypatch.setattr("os.dup", duplicate)
    serving = server(make_app(), Settings(port=0))
    with running_in_a_thread(serving):
        assert len(serving.servers) == LISTENERS


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_on_all_addresses_both_protocols_are_answered(address: str) -> None:
    app = make_app()
    serving = server(app, Settings(host="::", port=0, allow_anonymous=True))
    with running_in_a_thread(serving):
        port = serving.servers[0].sockets[0].getsockname()[1]

        assert httpx.get(f"http://{address}:{port}/health/live").status_code == 200


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_several_front_ends_take_connections_of_both_protocols() -> None:
    bound = bind("::", 0)
    with contextlib.ExitStack() as opened:
        for listening in bound:
            opened.enter_context(listening).listen()
        for address in ("127.0.0.1", "::1"):
            opened.enter_context(socket.create_connection((address, bound[0].getsockname()[1]), timeout=20))
