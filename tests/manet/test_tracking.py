"""Tracking: synthetic motion, whose faces a test knows by name."""

import random
from collections.abc import Callable, Mapping

import pytest

from manet.labels import Expression
from manet.recognizer import RecognizedFace
from manet.tracking import Tracker, TrackingRules
from manet.vision.faces import Box, DetectedFace, Landmarks, Point

Places = Mapping[str, tuple[float, float]]


def face(x: float, y: float, happy: float = 1.0, side: float = 40.0) -> RecognizedFace:
    """Return a face whose box has its middle at (x, y)."""
    box = Box(x - side / 2, y - side / 2, side, side)
    found = DetectedFace(box, 0.9, Landmarks(*[Point(x, y)] * 5))
    return RecognizedFace(found, {Expression.HAPPINESS: happy, Expression.NEUTRAL: 1 - happy})


def tracks(
    where: Callable[[float], Places], seconds: float, rate: float, tracker: Tracker | None = None, seed: int = 1
) -> dict[str, list[int]]:
    """Return the tracks that each named face had, frame by frame; the faces of a frame come in any order."""
    tracker, order = tracker or Tracker(), random.Random(seed)
    seen: dict[str, list[int]] = {}
    for frame in range(round(seconds * rate) + 1):
        now = frame / rate
        places = list(where(now).items())
        order.shuffle(places)
        followed = tracker.follow([face(*place) for _, place in places], now)
        for (name, _), found in zip(places, followed, strict=True):
            seen.setdefault(name, []).append(found.track)
    return seen


@pytest.mark.parametrize("rate", [5, 15, 30])
def test_a_face_that_moves_keeps_its_track(rate: float) -> None:
    seen = tracks(lambda t: {"a": (50 + 150 * t, 100 + 20 * t)}, 3, rate)
    assert set(seen["a"]) == {1}


@pytest.mark.parametrize("rate", [10, 30])
def test_faces_that_cross_keep_theirs(rate: float) -> None:
    seen = tracks(lambda t: {"a": (50 + 100 * t, 100), "b": (350 - 100 * t, 108)}, 3, rate)
    assert (len(set(seen["a"])), len(set(seen["b"]))) == (1, 1)
    assert set(seen["a"]) != set(seen["b"])


def test_faces_that_hide_each_other_while_they_cross_keep_theirs() -> None:
    def where(t: float) -> Places:
        a, b = (50 + 100 * t, 100), (350 - 100 * t, 108)
        return {"a": a} if abs(a[0] - b[0]) < 30 else {"a": a, "b": b}

    seen = tracks(where, 3, 15)
    assert (len(set(seen["a"])), len(set(seen["b"]))) == (1, 1)


def test_a_detector_that_jitters_and_misses_now_and_then_makes_no_new_face() -> None:
    noise = random.Random(2)

    def where(t: float) -> Places:
        shaken = {name: (x + noise.gauss(0, 4), 100 + noise.gauss(0, 4)) for name, x in (("a", 100), ("b", 160))}
        return {name: place for name, place in shaken.items() if noise.random() > 0.2}

    seen = tracks(where, 20, 15)
    assert (len(set(seen["a"])), len(set(seen["b"]))) == (1, 1)


@pytest.mark.parametrize(("away", "faces"), [(1.0, 1), (3.0, 2)], ids=["soon", "late"])
def test_a_face_that_comes_back_is_the_same_only_if_it_was_away_for_a_moment(away: float, faces: int) -> None:
    seen = tracks(lambda t: {} if 1 < t < 1 + away else {"a": (100, 100)}, 5, 10)
    assert len(set(seen["a"])) == faces


def test_a_pause_of_the_whole_image_ends_tracks_as_well() -> None:
    tracker = Tracker()
    assert [tracker.follow([face(0, 0)], now)[0].track for now in (0.0, 0.1, 9.0)] == [1, 1, 2]


def test_a_face_missed_in_too_many_frames_is_another_one() -> None:
    tracker = Tracker(TrackingRules(frames=3))
    tracker.follow([face(0, 0)], 0.0)
    for number in range(1, 5):
        tracker.follow([], number / 100)
    assert (len(tracker), tracker.follow([face(0, 0)], 0.05)[0].track) == (0, 2)


def test_another_place_or_another_size_is_another_face() -> None:
    tracker = Tracker()
    assert tracker.follow([face(50, 50)], 0.0)[0].track == 1
    assert tracker.follow([face(200, 50)], 0.1)[0].track == 2
    assert tracker.follow([face(50, 50, side=120)], 0.2)[0].track == 3


def test_an_image_taken_as_a_whole_is_one_face() -> None:
    tracker, whole = Tracker(), RecognizedFace(None, {Expression.NEUTRAL: 1.0})
    assert [tracker.follow([whole], now)[0].track for now in (0.0, 0.1)] == [1, 1]


def test_tracks_are_bounded_and_the_oldest_go() -> None:
    tracker = Tracker(TrackingRules(most=10))
    for number in range(50):
        tracker.follow([face(1000.0 * number, 0), face(1000.0 * number, 500)], number / 100)
        assert len(tracker) <= 10
    assert tracker.follow([face(49_000.0, 0)], 0.5)[0].track == 99


@pytest.mark.parametrize("rate", [4, 20, 100])
def test_smoothing_goes_by_time_and_not_by_frames(rate: int) -> None:
    tracker = Tracker(TrackingRules(half_life=0.5))
    tracker.follow([face(0, 0, happy=1.0)], 0.0)
    for frame in range(1, rate + 1):
        [found] = tracker.follow([face(0, 0, happy=0.0)], frame / rate)
    assert found.face.probabilities[Expression.HAPPINESS] == 0.0
    assert found.smoothed[Expression.HAPPINESS] == pytest.approx(0.25)
    assert sum(found.smoothed.values()) == pytest.approx(1)
    assert found.smoothed_face.expression == Expression.NEUTRAL


def test_one_odd_frame_does_not_change_the_answer() -> None:
    tracker = Tracker()
    answers = [
        tracker.follow([face(0, 0, happy=h)], n / 15)[0].smoothed_face.expression for n, h in enumerate([0.9, 0.9, 0.1])
    ]
    assert set(answers) == {Expression.HAPPINESS}


def test_no_half_life_is_no_smoothing() -> None:
    tracker = Tracker(TrackingRules(half_life=0))
    tracker.follow([face(0, 0, happy=1.0)], 0.0)
    assert tracker.follow([face(0, 0, happy=0.2)], 0.01)[0].smoothed[Expression.HAPPINESS] == pytest.approx(0.2)
