"""The supervisor's decisions, with processes that end, or fall silent, as the test says."""

import asyncio
from typing import Any

import pytest

from manet.backends.selection import Machine
from service.batching.supervisor import Recovery
from service.inference.engine import load_faces
from service.processes import supervisor
from service.processes.memory import ENGINE_BEATS, EXPLAINER_BEATS, Layout, SharedMemory
from service.processes.spec import Spec
from service.processes.supervisor import Supervisor, default_workers, loaders
from service.settings import Settings
from testing.fakes import WEIGHTS

pytestmark = pytest.mark.anyio


def test_faces_are_found_in_the_engine_s_process_on_cuda_and_elsewhere_in_the_front_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cuda, settings, wanted in (
        (0, Settings(), None),
        (9, Settings(), load_faces),
        (9, Settings(device="cpu"), None),
        (9, Settings(backend="openvino"), None),
    ):
        machine = Machine(cuda=cuda, openvino=True, bf16=False, vnni=False)
        monkeypatch.setattr(Machine, "this", lambda: machine)  # noqa: B023
        assert loaders(settings).faces is wanted


@pytest.mark.parametrize(
    ("cpus", "front_ends", "wait", "workers"),
    [(16, 15, False, 1), (16, 15, True, 2), (2, 4, False, 1), (16, 2, False, 8), (16, 2, True, 8), (8, 2, True, 8)],
)
def test_workers_are_as_many_as_cpus_or_twice_as_many_where_they_wait(
    cpus: int, front_ends: int, wait: bool, workers: int
) -> None:
    assert default_workers(cpus, front_ends, wait=wait) == workers


class OverError(Exception):
    """The supervisor has done all that the test lets it do."""


class FakeChild:
    """A process that is up as often as the test says, and then ends at once."""

    ups = 0
    started = 0
    most = 100
    pid, status = 1, -9

    def __init__(self, name: str, *_: Any) -> None:
        self.name = name
        self.takes, self.aborted = True, 0
        self.ended = asyncio.Event()
        self.ended.set()
        if type(self).started == type(self).most:
            raise OverError
        type(self).started += 1

    async def ready(self, _seconds: float) -> bytes | None:
        if type(self).ups == 0:
            return None
        type(self).ups -= 1
        return b"{}"

    def tell(self, _message: bytes, *_: Any) -> bool:
        return self.takes

    def abort(self) -> None:
        self.aborted += 1

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


async def test_a_process_is_started_once_the_system_has_room_for_it(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter([True, True, True, False])

    class RefusedChild(FakeChild):
        def __init__(self, name: str, *more: Any) -> None:
            if next(refusals):
                raise BlockingIOError
            super().__init__(name, *more)

    monkeypatch.setattr(supervisor, "Child", RefusedChild)
    monkeypatch.setattr(FakeChild, "ups", 0)
    await _supervisor()._keep_engine()

    assert (RefusedChild.started, pauses) == (1, [0.0, 0.5, 1.0])


async def test_another_backend_in_a_new_engine_s_process_starts_the_front_ends_again() -> None:
    service, front_end = _supervisor(), FakeChild("front end 0")
    service._started[0] = front_end  # type: ignore[assignment]
    for facts, ended in ((b"cuda", 0), (b"cuda", 0), (b"cpu", 1)):
        service._engine_is_up(FakeChild("engine"), facts)  # type: ignore[arg-type]
        assert front_end.aborted == ended


async def test_a_process_that_does_not_take_its_sockets_is_ended() -> None:
    service, front_end, engine = _supervisor(), FakeChild("front end 0"), FakeChild("engine")
    front_end.takes = False
    service._started[0] = front_end  # type: ignore[assignment]
    service._engine_is_up(engine, b"{}")  # type: ignore[arg-type]

    assert (engine.aborted, front_end.aborted) == (0, 1)


async def test_a_lost_engine_is_not_started_again_where_that_is_set(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeChild, "ups", 1)
    await _supervisor(on_engine_failure="exit")._keep_engine()

    assert (FakeChild.started, pauses) == (1, [])


async def test_a_front_end_that_ends_again_and_again_is_started_again_after_growing_pauses(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeChild, "ups", 3)
    monkeypatch.setattr(FakeChild, "most", 9)
    keeper = _supervisor()
    keeper._engine_up.set()
    with pytest.raises(OverError):
        await keeper._keep_front_end(0)

    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


class SilentChild(FakeChild):
    """A process that runs until it is killed."""

    kills = 0

    async def kill(self) -> None:
        self.kills += 1


@pytest.mark.parametrize("name", ["engine", "explainer", "front end"])
@pytest.mark.parametrize(
    ("looks", "kills"),
    [("+++", 0), ("+-+", 0), ("+-+-+-+", 0), ("+--", 1), ("+-+--", 1)],
    ids=["never silent", "silent once", "silent at every second look", "silent twice", "silent once and then twice"],
)
async def test_a_process_is_killed_when_it_is_silent_at_two_looks_in_succession(
    name: str, looks: str, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, child, left = _supervisor(), SilentChild(name), iter(looks)
    memory = watcher._memory

    async def sleep(_seconds: float) -> None:
        look = next(left, None)
        if look is None:
            raise OverError
        if look == "+":
            for place in (1, ENGINE_BEATS, EXPLAINER_BEATS):
                memory.beats[place] += 1

    monkeypatch.setattr("service.processes.supervisor.asyncio.sleep", sleep)
    if name == "engine":
        watcher._engine = child  # type: ignore[assignment]
    elif name == "explainer":
        watcher._explainer = child  # type: ignore[assignment]
    else:
        watcher._up[1] = child  # type: ignore[assignment]
    with pytest.raises(OverError):
        await watcher._watch()

    assert child.kills == kills
