"""Admission: who is admitted, and that every place is given back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from service.admission import REASONS, Admission, AdmissionLimits, Ticket
from service.errors import DrainingError, NotReadyError, OverloadedError


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
    return Admission(AdmissionLimits(uploads=3, images=2, bytes=100, deadline=5.0), engine=rig, clock=rig, observer=rig)


@contextmanager
def image(admission: Admission, size: int = 1) -> Iterator[Ticket]:
    """Hold what an image holds from the end of its upload on."""
    with admission.receive(size) as upload:
        upload.add(size)
        with admission.admit(upload) as ticket:
            yield ticket


def test_a_ticket_carries_the_deadline_which_begins_when_the_body_is_there(admission: Admission, rig: Rig) -> None:
    with admission.receive(10) as upload:
        rig.time += 3
        with admission.admit(upload) as ticket:
            assert ticket.deadline == 108.0
            assert (admission.uploads, admission.images) == (0, 1)
    assert admission.images == 0


def test_a_place_is_given_back_whatever_happens(admission: Admission, rig: Rig) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), image(admission, 100):
            raise ZeroDivisionError
    assert admission.images == admission.uploads == 0
    assert rig.refused == []


def test_images_are_bounded_at_admission_and_again_when_the_body_is_there(admission: Admission, rig: Rig) -> None:
    with admission.receive(1) as late, image(admission), image(admission):
        with pytest.raises(OverloadedError, match="images"), admission.receive(1):
            pass
        with pytest.raises(OverloadedError, match="images"), admission.admit(late):
            pass
    assert rig.refused == ["images", "images"]


def test_bodies_on_their_way_hold_no_image_s_place_and_are_bounded_themselves(admission: Admission, rig: Rig) -> None:
    with admission.receive(1), admission.receive(1):
        with image(admission), image(admission):
            assert (admission.uploads, admission.images) == (2, 2)
        with admission.receive(1), pytest.raises(OverloadedError, match="uploads"), admission.receive(1):
            pass
    assert rig.refused == ["uploads"]


def test_bytes_are_bounded_by_what_is_stated_and_what_arrives(admission: Admission, rig: Rig) -> None:
    with admission.receive(100) as slow, image(admission, 60):
        slow.add(30)
        with pytest.raises(OverloadedError, match="bytes"), admission.receive(11):
            pass
        with pytest.raises(OverloadedError, match="bytes"):
            slow.add(11)
        slow.add(10)
    with admission.receive(100) as upload:
        upload.add(100)
    assert rig.refused == ["bytes", "bytes"]


def test_an_image_that_would_be_late_is_rejected_at_once_with_the_time_to_retry(admission: Admission, rig: Rig) -> None:
    rig.seconds_a_face = 7.5
    with pytest.raises(OverloadedError, match="deadline") as refused, admission.receive(1):
        pass
    assert refused.value.retry_after == 3
    assert rig.refused == ["deadline"]


def test_images_on_their_way_to_the_queue_count_and_those_in_it_are_not_counted_twice(
    admission: Admission, rig: Rig
) -> None:
    rig.seconds_a_face = 3.0
    with image(admission) as ticket:
        with pytest.raises(OverloadedError, match="deadline"), admission.receive(1):
            pass
        ticket.leave()
        with image(admission):
            pass


def test_a_network_that_does_not_answer_admits_nothing(admission: Admission, rig: Rig) -> None:
    with admission.receive(1) as upload:
        rig.alive = False
        assert not admission.ready
        with pytest.raises(NotReadyError), admission.receive(1):
            pass
        with pytest.raises(NotReadyError), admission.admit(upload):
            pass
    assert rig.refused == ["not_ready", "not_ready"]


def test_draining_admits_nothing_new_but_finishes_what_was_admitted(admission: Admission, rig: Rig) -> None:
    with admission.receive(1) as upload, image(admission):
        admission.draining = True
        assert not admission.ready
        with pytest.raises(DrainingError), admission.receive(1):
            pass
        with admission.admit(upload):
            assert admission.images == 2
    assert rig.refused == ["draining"]
