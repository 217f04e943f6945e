"""The supervisor's decisions, with processes that end as the test says."""

import asyncio
from typing import Any

import pytest

from service.batching.supervisor import Recovery
from service.processes import supervisor
from service.processes.memory import Layout, SharedMemory
from service.processes.spec import Spec
from service.processes.supervisor import Supervisor, loaders
from service.settings import Settings
from testing.fakes import WEIGHTS

pytestmark = pytest.mark.anyio


class FakeChild:
    """A process that is up as often as the test says, and then ends at once."""

    ups = 0
    started = 0
    pid, status = 1, -9

    def __init__(self, name: str, *_: Any) -> None:
        self.name = name
        self.ended = asyncio.Event()
        self.ended.set()
        type(self).started += 1

    async def ready(self, _seconds: float) -> bytes | None:
        if type(self).ups == 0:
            return None
        type(self).ups -= 1
        return b"{}"

    async def kill(self) -> None:
        """Be gone already."""


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; none takes any time."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(supervisor, "Child", FakeChild)
    monkeypatch.setattr(FakeChild, "started", 0)
    monkeypatch.setattr("service.processes.supervisor.asyncio.sleep", sleep)
    return made


def _supervisor(**settings: Any) -> Supervisor:
    chosen, memory = Settings(device="cpu", **settings), SharedMemory.create(Layout(2, 1, 8, 3))
    spec = Spec(settings=chosen, weights=WEIGHTS, load=loaders(chosen), memory=memory, secret=b"")
    return Supervisor(spec, [])


async def test_an_engine_that_never_comes_up_is_the_end(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeChild, "ups", 0)
    await _supervisor()._keep_engine()

    assert (FakeChild.started, pauses) == (1, [])


async def test_a_lost_engine_is_started_again_after_growing_pauses_and_then_given_up(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeChild, "ups", 3)
    await _supervisor()._keep_engine()

    assert FakeChild.started == Recovery().attempts + 1
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]


async def test_a_lost_engine_is_not_started_again_where_that_is_set(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeChild, "ups", 1)
    await _supervisor(on_engine_failure="exit")._keep_engine()

    assert (FakeChild.started, pauses) == (1, [])
