"""Tracking: which face of this frame is which of the last ones, and probabilities smoothed over time.

Pure: the time is an argument. Faces are followed by where their boxes lie; nothing of what they look like is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import Any

from manet.labels import Expression
from manet.recognizer import RecognizedFace
from manet.vision.faces import Box

Probabilities = Mapping[Expression, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingRules:
    """How faces are followed.

    Attributes:
        reach: how far a face may be from where it is expected, in sides of its box, unless the boxes overlap.
        overlap: the share of two boxes (intersection over union) from which on they may be one face at any distance.
        growth: how many times as large or small a box may become from one frame to the next.
        seconds: how long a face may be out of sight and still be the same.
        frames: in how many frames in a row it may be missed, likewise.
        half_life: seconds after which an old probability counts half in the smoothed one; 0 does not smooth.
        most: tracks at once; beyond them those that were not seen for the longest time end.
    """

    reach: float = 1.0
    overlap: float = 0.2
    growth: float = 2.0
    seconds: float = 1.5
    frames: int = 60
    half_life: float = 0.3
    most: int = 128


@dataclass(frozen=True, slots=True)
class FollowedFace:
    """A face of this frame and what is known of it from earlier ones.

    Attributes:
        track: a number that lasts while the face is followed; from 1, never given twice.
        face: what this frame alone shows.
        smoothed: probabilities of each class, averaged over the track, summing to 1.
    """

    track: int
    face: RecognizedFace
    smoothed: Probabilities

    @property
    def smoothed_face(self) -> RecognizedFace:
        """The face with the smoothed probabilities in place of its own."""
        return RecognizedFace(self.face.face, self.smoothed)

    def record(self) -> dict[str, Any]:
        """Return the face as plain values: its own, with the expression and confidence of the smoothed ones."""
        smoothed = self.smoothed_face
        return {
            **self.face.record(),
            "expression": smoothed.expression,
            "confidence": smoothed.confidence,
            "track": self.track,
            "smoothed": dict(self.smoothed),
        }


class Tracker:
    """Follows the faces of one video.

    Args:
        rules: how.
    """

    def __init__(self, rules: TrackingRules | None = None) -> None:
        self._rules = TrackingRules() if rules is None else rules
        self._numbers = count(1)
        self._tracks: list[_Track] = []

    def __len__(self) -> int:
        """Tracks that are kept."""
        return len(self._tracks)

    def follow(self, faces: Sequence[RecognizedFace], now: float) -> list[FollowedFace]:
        """Return the faces of the next frame, in their order, each with its track.

        Pairs of a track and a face are taken greedily, the best first: by how much the boxes overlap, less how far
        their middles are apart, where the track's box is moved on by its own speed first. A face without a box, from an
        image taken as a whole, is always the same one.

        Args:
            faces: of this frame.
            now: when the frame was taken, in seconds of any clock; not before the last one.
        """
        rules = self._rules
        self._tracks = [track for track in self._tracks if now - track.seen <= rules.seconds]
        pairs = sorted(
            (
                (score, number, place)
                for number, track in enumerate(self._tracks)
                for place, face in enumerate(faces)
                if (score := _likeness(track.expected(now), _box(face), rules)) is not None
            ),
            key=lambda pair: (-pair[0], pair[1:]),
        )
        taken: dict[int, _Track] = {}
        matched: set[int] = set()
        for _, number, place in pairs:
            if number not in matched and place not in taken:
                matched.add(number)
                taken[place] = self._tracks[number]
        for number, track in enumerate(self._tracks):
            track.missed += number not in matched
        self._tracks = [track for track in self._tracks if track.missed <= rules.frames]
        followed = [self._followed(taken.get(place), face, now) for place, face in enumerate(faces)]
        self._tracks = sorted(self._tracks, key=lambda track: track.seen)[-rules.most :]
        return followed

    def _followed(self, track: "_Track | None", face: RecognizedFace, now: float) -> FollowedFace:
        if track is None:
            track = _Track(next(self._numbers), _box(face), face.probabilities, now)
            self._tracks.append(track)
        else:
            track.update(face, now, self._rules.half_life)
        return FollowedFace(track.number, face, track.smoothed)


_SPEED_HALF_LIFE = 0.15
"""Seconds after which an old speed counts half; boxes jitter, and a speed of one step alone would be mostly that."""


class _Track:
    """A face that is followed."""

    def __init__(self, number: int, box: Box | None, probabilities: Probabilities, now: float) -> None:
        self.number = number
        self.smoothed = probabilities
        self.seen = now
        self.missed = 0
        self._box = box
        self._speed = (0.0, 0.0)  # of the middle, in pixels a second

    def expected(self, now: float) -> Box | None:
        """Return where the box should be by now if it moved on as it did."""
        if self._box is None:
            return None
        seconds, box = now - self.seen, self._box
        return Box(box.x + seconds * self._speed[0], box.y + seconds * self._speed[1], box.width, box.height)

    def update(self, face: RecognizedFace, now: float, half_life: float) -> None:
        """Take in what the next frame shows of it."""
        seconds, box = now - self.seen, _box(face)
        new = _weight(seconds, half_life)
        mixed = {name: old + new * (face.probabilities[name] - old) for name, old in self.smoothed.items()}
        self.smoothed = MappingProxyType(mixed)
        if box is not None and self._box is not None and seconds > 0:
            new = _weight(seconds, _SPEED_HALF_LIFE)
            steps = (b - a for a, b in zip(_middle(self._box), _middle(box), strict=True))
            vx, vy = (v + new * (step / seconds - v) for v, step in zip(self._speed, steps, strict=True))
            self._speed = (vx, vy)
        self._box, self.seen, self.missed = box, now, 0


def _weight(seconds: float, half_life: float) -> float:
    """Return how much a new value counts in an exponential average, after so many seconds."""
    return 1.0 if half_life <= 0 else 1.0 - 0.5 ** (seconds / half_life)


def _likeness(expected: Box | None, found: Box | None, rules: TrackingRules) -> float | None:
    """Return how like two boxes are, at most 1; None where they cannot be the same face."""
    if expected is None or found is None:
        return 1.0 if expected is found else None
    side, other = _side(expected), _side(found)
    if max(side, other) > rules.growth * min(side, other):
        return None
    apart = abs(complex(*_middle(expected)) - complex(*_middle(found))) / max(side, other, 1e-9)
    overlap = _overlap(expected, found)
    return overlap - apart if overlap >= rules.overlap or apart <= rules.reach else None


def _overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0..1."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a.width * a.height + b.width * b.height - shared)


def _middle(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


def _side(box: Box) -> float:
    """Return the side of a square as large as a box."""
    return float((box.width * box.height) ** 0.5)


def _box(face: RecognizedFace) -> Box | None:
    return None if face.face is None else face.face.box
