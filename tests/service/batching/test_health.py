"""The judge of the engine: it goes by the batches that came back."""

from service.batching.health import EngineHealth


def test_an_engine_that_never_answered_is_not_alive_and_is_to_be_asked_at_once() -> None:
    health = EngineHealth()

    assert not health.alive(0.0)
    assert health.until_probe(123.0) == 0.0
    assert not health.broken
    assert not health.suspect


def test_an_answer_is_believed_for_as_long_as_the_timeout_lasts() -> None:
    health = EngineHealth(timeout=30.0)
    health.succeeded(100.0)

    assert health.alive(100.0)
    assert health.alive(130.0)
    assert not health.alive(130.1)

    health.succeeded(131.0)
    assert health.alive(131.0)


def test_a_failure_is_no_heartbeat() -> None:
    health = EngineHealth(timeout=30.0)
    health.succeeded(100.0)
    health.failed(125.0)

    assert health.alive(130.0)
    assert not health.alive(131.0)


def test_two_failures_in_succession_make_it_suspect_and_neither_breaks_it() -> None:
    health = EngineHealth()
    health.succeeded(0.0)

    health.failed(1.0)
    assert (health.suspect, health.broken, health.alive(1.0)) == (False, False, True)
    health.failed(2.0)
    assert (health.suspect, health.broken, health.alive(2.0)) == (True, False, True)


def test_an_answer_between_two_failures_clears_the_first() -> None:
    health = EngineHealth()
    health.failed(1.0)
    health.succeeded(2.0)
    health.failed(3.0)

    assert not health.suspect


def test_an_unhealthy_engine_is_not_alive_until_it_answers() -> None:
    health = EngineHealth()
    health.succeeded(0.0)
    health.mark_unhealthy("it is on fire")

    assert (health.broken, health.alive(0.0)) == (True, False)
    assert health.reason == "it is on fire"

    health.failed(1.0)
    assert (health.broken, health.alive(1.0)) == (True, False)

    health.succeeded(2.0)
    assert (health.broken, health.alive(2.0)) == (False, True)


def test_a_quiet_engine_is_asked_one_interval_after_the_last_try_whatever_became_of_it() -> None:
    health = EngineHealth(interval=5.0)

    health.succeeded(10.0)
    assert health.until_probe(12.0) == 3.0
    assert health.until_probe(16.0) <= 0

    health.failed(16.0)
    assert health.until_probe(16.0) == 5.0, "a broken engine must not be asked in a tight loop"
