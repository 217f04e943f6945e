"""What processes share, piece by piece: bounds under a race, windows, series, notes, pauses, addresses."""

import asyncio
import multiprocessing
import socket

import limits
import numpy as np
import pytest
from prometheus_client import generate_latest

from service.batching.errors import DeadlinePassedError, EngineUnavailableError, QueueFullError
from service.batching.policy import BatchPolicy, BatchTimes
from service.batching.supervisor import Recovery
from service.clock import SystemClock
from service.http.protocol import BoundedProtocol
from service.observability.metrics import Metrics
from service.processes.channel import Channel, Request, Result, pair
from service.processes.children import Pauses
from service.processes.front_end import CountedConnections
from service.processes.listener import bind
from service.processes.memory import SERIES, Layout, SharedMemory
from service.processes.metrics import SeriesTable, shared_metrics
from service.processes.remote import RemoteScheduler, RemoteTimes
from service.processes.usage import ClientHash, SharedPlaces, SharedUsage, SharedWindow

LAYOUT = Layout(front_ends=2, slots=4, side=8, classes=3)
CLIENTS = ClientHash(b"secret")


@pytest.fixture
def memory() -> SharedMemory:
    return SharedMemory.create(LAYOUT)


# -- bounds


def _race(memory: SharedMemory, front_end: int, most: int, rounds: int) -> None:
    """Take places and give them back; what was admitted is noted apart, and must never be more than the bound."""
    usage, admitted = SharedUsage(memory, front_end), memory.counts["faces"]
    taken = 0
    for _ in range(rounds):
        if usage.reserve("images", 1, most):
            admitted[front_end] += 1
            assert sum(admitted) <= most
            taken += 1
            admitted[front_end] -= 1
            usage.add("images", -1)
    memory.counts["detections_failed"][front_end] = taken


def test_two_processes_never_hold_more_than_the_bound(memory: SharedMemory) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_race, args=(memory, number, 1, 50_000)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)

    assert [process.exitcode for process in processes] == [0, 0]
    assert all(taken > 0 for taken in memory.counts["detections_failed"]), "both had their turns"
    assert sum(memory.counts["images"]) == 0


def test_a_bound_holds_for_all_front_ends_and_what_a_dead_one_held_is_given_back(memory: SharedMemory) -> None:
    one, other = SharedUsage(memory, 0), SharedUsage(memory, 1)

    assert one.reserve("bytes", 60, 100)
    assert not other.reserve("bytes", 50, 100)
    assert other.reserve("bytes", 40, 100)
    assert one.total("bytes") == other.total("bytes") == 100
    memory.forget(0)
    assert other.total("bytes") == 40


def test_places_of_a_client_are_counted_on_all_front_ends(memory: SharedMemory) -> None:
    one, other = (
        SharedPlaces(memory.streams, memory.counts["streams"], front_end=number, clients=CLIENTS) for number in (0, 1)
    )

    assert one.enter("10.0.0.1", most=3, most_each=2)
    assert other.enter("10.0.0.1", most=3, most_each=2)
    assert not other.enter("10.0.0.1", most=3, most_each=2)
    assert other.enter("10.0.0.2", most=3, most_each=2)
    assert not one.enter("10.0.0.3", most=3, most_each=2)
    assert one.taken == 3
    memory.forget(1)
    assert one.taken == 1
    one.leave("10.0.0.1")
    assert other.taken == 0


def test_requests_in_a_time_are_counted_on_all_front_ends(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 6000.0
    monkeypatch.setattr("time.time", lambda: now)
    rate = limits.parse("4/minute")
    one, other = (SharedWindow(rate, memory, front_end=number, clients=CLIENTS) for number in (0, 1))

    assert [window.hit("key 1") for window in (one, other, one, other)] == [None] * 4
    assert one.hit("key 1") == pytest.approx(60)
    assert one.hit("key 2") is None
    memory.forget(0)
    now += 60 + 30  # half of the window that ends now lies in the one that was full
    assert [one.hit("key 1"), other.hit("key 1")] == [None, None]
    waits = one.hit("key 1"), other.hit("key 1")
    assert all(wait is not None and 0 <= wait <= 30 for wait in waits)
    now += 120
    assert [window.hit("key 1") for window in (one, other, one, other)] == [None] * 4


def test_clients_have_the_same_number_in_each_process_and_keys_their_own() -> None:
    assert ClientHash(b"secret").number("10.0.0.1") == CLIENTS.number("10.0.0.1")
    assert ClientHash(b"another").number("10.0.0.1") != CLIENTS.number("10.0.0.1")
    assert [CLIENTS.number(f"key {number}") for number in (1, 2)] == [1, 2]


# -- metrics


def _used(metrics: Metrics) -> Metrics:
    metrics.answered("/predict", 200, 0.003)
    metrics.answered("/predict", 200, 20.0)
    metrics.answered("other", 404, 0.001)
    metrics.shed("images")
    metrics.completed(3, 0.01)
    metrics.recognized(3)
    return metrics


def _shown(metrics: Metrics) -> list[str]:
    """Return what Prometheus reads, without the times at which series were made."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


def test_metrics_are_those_of_a_single_process(memory: SharedMemory) -> None:
    assert _shown(_used(shared_metrics(memory, 0))) == _shown(_used(Metrics()))


def test_metrics_add_up_over_processes_and_restarts(memory: SharedMemory) -> None:
    for row in (0, 1, 2):
        _used(shared_metrics(memory, row))
    once, again = shared_metrics(memory, 1), shared_metrics(memory, 0)  # two that were restarted
    used = list(memory.used)
    _used(once)

    expected = Metrics()
    for _ in range(4):
        _used(expected)
    assert _shown(again) == _shown(expected)
    assert list(memory.used) == used, "a process that was restarted has no series of its own"


def test_the_number_of_series_is_bounded(memory: SharedMemory, caplog: pytest.LogCaptureFixture) -> None:
    table = SeriesTable(memory, 0)
    table.declare("many", 1)
    for number in range(SERIES + 5):
        table.add(table.place("many", (str(number),)), 1.0)

    assert len(table.totals("many")) == SERIES
    assert "no room" in caplog.text


# -- connections


def test_a_websocket_is_still_the_connection_that_it_was_before(memory: SharedMemory) -> None:
    gone, upgraded, other = memory.counts["gone"], *(BoundedProtocol.__new__(BoundedProtocol) for _ in range(2))
    websocket, connections = object(), CountedConnections(gone, 1)
    connections.add(upgraded)
    connections.add(other)
    connections.discard(upgraded)
    connections.add(websocket)
    assert list(gone) == [0, 0]

    connections.discard(other)
    connections.discard(websocket)
    connections.lose()
    assert list(gone) == [0, 3]


# -- the engine, as front ends see it


def test_the_expected_wait_is_that_in_a_single_process_and_counts_the_faces_of_all(memory: SharedMemory) -> None:
    own, policy, clock = BatchTimes(), BatchPolicy(max_batch_size=8), SystemClock()
    for size, seconds in ((1, 0.5), (8, 2.0), (3, 5.0)):
        own.add(size, seconds)
    for size, seconds in own.known().items():
        memory.times[size.bit_length() - 1] = seconds
    remote = RemoteScheduler(memory, 0, policy=policy, clock=clock)

    assert [RemoteTimes(memory).expect(size) for size in range(1, 40)] == [own.expect(size) for size in range(1, 40)]
    assert remote.expected_wait() == own.expect(1)
    memory.counts["faces"][0], memory.counts["faces"][1] = 10, 8
    assert remote.expected_wait(ahead=2) == policy.expected_wait(own, ahead=20, running=None, now=0.0)
    memory.report(running=8, started=clock.now() - 100)  # which is as good as done
    assert remote.expected_wait(ahead=2) == policy.expected_wait(own, ahead=12, running=None, now=0.0)


@pytest.mark.anyio
async def test_an_engine_that_is_lost_gives_back_slots_and_counts(memory: SharedMemory) -> None:
    remote = RemoteScheduler(memory, 1, policy=BatchPolicy(max_batch_size=8), clock=SystemClock())
    face, deadline = np.zeros((LAYOUT.side, LAYOUT.side, 3), np.uint8), SystemClock().now() + 60
    memory.counts["faces"][0] = 5  # the other front end's

    for _ in range(2):  # as often as an engine is lost
        engine_end, own_end = pair()
        remote.connect(own_end)
        waiting = [asyncio.create_task(remote.submit([face] * count, deadline=deadline)) for count in (1, 2, 1)]
        async with asyncio.timeout(30):
            packet = await asyncio.get_running_loop().sock_recv(engine_end, 1 << 17)
        assert [len(request.slots) for request in Request.unpack(packet)] == [1, 2, 1]
        assert list(memory.counts["faces"]) == [5, LAYOUT.slots]
        with pytest.raises(QueueFullError):
            await remote.submit([face], deadline=deadline)
        waiting[1].cancel()  # its caller waits no more; its slots come back with the others
        engine_end.close()
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)

        assert [type(outcome) for outcome in (outcomes[0], outcomes[2])] == [EngineUnavailableError] * 2
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert list(memory.counts["faces"]) == [5, 0]
        assert sorted(remote._free) == list(range(LAYOUT.slots))
        with pytest.raises(EngineUnavailableError, match="started again"):
            await remote.submit([face], deadline=deadline)


# -- notes


@pytest.mark.parametrize("slots", [(), (3,), tuple(range(300))])
def test_requests_come_out_as_they_went_in(slots: tuple[int, ...]) -> None:
    requests = [Request(7, 2**63, 1.5, slots), Request(8, 1, 2.5, (0, 1))]

    assert list(Request.unpack(b"".join(request.pack() for request in requests))) == requests


def test_results_come_out_as_they_went_in() -> None:
    results = [Result(7, 0, 1.0, 2.0, 32), Result.of(8, DeadlinePassedError("too late, señor")), Result(9, 255)]
    found = list(Result.unpack(b"".join(result.pack() for result in results)))

    assert found == results
    assert isinstance(found[1].error(), DeadlinePassedError)
    assert isinstance(found[1]._replace(outcome=1).error(), EngineUnavailableError)


@pytest.mark.anyio
async def test_a_channel_loses_no_note_where_the_other_side_reads_late() -> None:
    one, other = pair()
    lost, taken = asyncio.Event(), bytearray()
    channel = Channel(one, lambda _: None, lambda: None)
    notes = [number.to_bytes(4) * 256 for number in range(4000)]  # 4 MB, more than the socket holds
    for note in notes:
        channel.put(note)
    await asyncio.sleep(0.01)
    Channel(other, taken.extend, lost.set)
    async with asyncio.timeout(30):
        while len(taken) < len(notes) * 1024:
            await asyncio.sleep(0.01)
        channel.close()
        await lost.wait()

    assert bytes(taken) == b"".join(notes)


# -- restarts and addresses


def test_pauses_grow_and_end_with_a_process_that_lasts() -> None:
    pauses = Pauses(Recovery(pause=1.0, longest=5.0))

    assert [pauses.next(lasted=False) for _ in range(6)] == [0.0, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert pauses.next(lasted=True) == 0.0
    assert [pauses.next(lasted=False) for _ in range(2)] == [0.0, 1.0]


def test_all_addresses_share_the_port() -> None:
    sockets = bind("::", 0)
    try:
        assert {found.family for found in sockets} == {socket.AF_INET, socket.AF_INET6}
        assert len({found.getsockname()[1] for found in sockets}) == 1
    finally:
        for found in sockets:
            found.close()


def test_an_address_that_is_taken_is_an_error() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", taken.getsockname()[1])
