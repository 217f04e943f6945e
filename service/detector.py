"""TimedDetector: a recognizer's face detector, timed by itself, apart from the decoding and cutting around it."""

from typing import Protocol

from manet.faces import DetectedFace, FaceDetector
from manet.preprocess import Pixels
from service.clock import Clock


class DetectorObserver(Protocol):
    """Who is told of every picture that was searched; called from several threads at once."""

    def detected(self, seconds: float) -> None:
        """A picture was searched for faces."""


class TimedDetector:
    """A detector whose every search is told; one that fails is not.

    Args:
        detector: finds the faces.
        clock: the time.
        observer: is told how long each search took.
    """

    def __init__(self, detector: FaceDetector, *, clock: Clock, observer: DetectorObserver) -> None:
        self._detector = detector
        self._clock = clock
        self._observer = observer

    def detect(self, image: Pixels) -> list[DetectedFace]:
        """Return the faces of a picture, as the detector does."""
        began = self._clock.now()
        found = self._detector.detect(image)
        self._observer.detected(self._clock.now() - began)
        return found
