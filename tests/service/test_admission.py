"""Admission: who is let in, and that every place is given back."""

from dataclasses import dataclass, field

import pytest

from service.admission import REASONS, Admission, Bounds
from service.errors import Draining, NotReady, Overloaded


@dataclass
class Rig:
    """Engine, clock and observer in one; the test sets what they say."""

    alive: bool = True
    reason: str = "the network is on holiday"
    seconds_a_face: float = 0.0
    time: float = 100.0
    refused: list[str] = field(default_factory=list)

    def expected_wait(self, ahead: int = 0) -> float:
        return self.seconds_a_face * (ahead + 1)

    def now(self) -> float:
        return self.time

    async def wait(self, event: object, seconds: float) -> None:
        raise AssertionError("admission does not wait")

    def shed(self, reason: str) -> None:
        assert reason in REASONS
        self.refused.append(reason)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def admission(rig: Rig) -> Admission:
    return Admission(Bounds(pictures=2, bytes=100, deadline=5.0), engine=rig, clock=rig, observer=rig)


def test_a_ticket_carries_the_deadline(admission: Admission) -> None:
    with admission.admit(10) as ticket:
        assert ticket.deadline == 105.0
        assert admission.pictures == 1
    assert admission.pictures == 0


def test_a_place_is_given_back_whatever_happens(admission: Admission, rig: Rig) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), admission.admit(100):
            raise ZeroDivisionError
    assert admission.pictures == 0
    assert rig.refused == []


def test_pictures_are_bounded(admission: Admission, rig: Rig) -> None:
    with admission.admit(1), admission.admit(1), pytest.raises(Overloaded, match="pictures"), admission.admit(1):
        pass
    assert rig.refused == ["pictures"]


def test_bytes_are_bounded(admission: Admission, rig: Rig) -> None:
    with admission.admit(60):
        with admission.admit(40):
            pass
        with pytest.raises(Overloaded, match="bytes"), admission.admit(41):
            pass
    assert rig.refused == ["bytes"]


def test_who_would_be_answered_too_late_is_told_at_once_and_when_to_come_back(admission: Admission, rig: Rig) -> None:
    rig.seconds_a_face = 7.5
    with pytest.raises(Overloaded, match="deadline") as refused, admission.admit(1):
        pass
    assert refused.value.retry_after == 3
    assert rig.refused == ["deadline"]


def test_pictures_on_their_way_to_the_queue_count_and_those_in_it_are_not_counted_twice(
    admission: Admission, rig: Rig
) -> None:
    rig.seconds_a_face = 3.0
    with admission.admit(1) as ticket:
        with pytest.raises(Overloaded, match="deadline"), admission.admit(1):
            pass
        ticket.queued = True
        with admission.admit(1):
            pass


def test_a_network_that_does_not_answer_lets_nobody_in(admission: Admission, rig: Rig) -> None:
    rig.alive = False
    assert not admission.ready
    with pytest.raises(NotReady), admission.admit(1):
        pass
    assert rig.refused == ["not_ready"]


def test_draining_lets_nobody_new_in_but_those_inside_stay(admission: Admission, rig: Rig) -> None:
    with admission.admit(1):
        admission.draining = True
        assert not admission.ready
        with pytest.raises(Draining), admission.admit(1):
            pass
        assert admission.pictures == 1
    assert rig.refused == ["draining"]
