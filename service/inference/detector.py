"""Detector: face detection, timed; and a guard that tells an image the detector fails on from a detector that fails."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol

from manet.errors import ImageError
from manet.vision.faces import DetectedFace, FaceDetector
from manet.vision.preprocess import Pixels
from service.clock import Clock
from service.errors import DetectionFailedError, DetectorUnavailableError, NotReadyError

_log = logging.getLogger("manet.detection")


class DetectorHealth(Protocol):
    """What the metrics ask about face detection; ``DetectorGuard`` answers it."""

    @property
    def alive(self) -> bool:
        """Whether the detector is not known to fail."""

    @property
    def failures(self) -> int:
        """Searches that failed, so far."""


class DetectorGuard:
    """Stands around every search for faces; safe in several threads.

    After a failure the detector is run on a blank image. If it answers, the image was at fault and
    fails alone. If not, searches are refused, and after each interval one of them is let through to see whether the
    detector answers again. It holds no state of its own that rebuilding it would mend.

    Args:
        probe: looks for faces in a blank image.
        clock: the time.
    """

    INTERVAL: ClassVar[float] = 5.0
    """Seconds between two tries of a detector that fails."""

    def __init__(self, probe: Callable[[], object], *, clock: Clock) -> None:
        self._probe = probe
        self._clock = clock
        self._lock = threading.Lock()
        self._next_try: float | None = None
        self._failures = 0

    @property
    def alive(self) -> bool:
        """Whether the detector is not known to fail."""
        return self._next_try is None

    @property
    def failures(self) -> int:
        """Searches that failed, so far."""
        return self._failures

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Hold during face detection.

        Raises:
            DetectionFailedError: if the search failed, and the detector answers for a blank image.
            DetectorUnavailableError: if the detector fails altogether, or was found to do so lately.
            NotReadyError: if its network is being started again.
            ImageError: as it came.
        """
        self._refuse_if_needed()
        try:
            yield
        except (ImageError, NotReadyError):  # more of the image was read; the network is being started again
            raise
        except Exception as error:  # a detector may raise anything
            with self._lock:
                self._failures += 1
            _log.error("the detector failed", exc_info=error)
            if self._answers():
                raise DetectionFailedError("the detector fails on this image") from None
            raise self._unavailable() from None
        self._next_try = None

    def _refuse_if_needed(self) -> None:
        with self._lock:
            now = self._clock.now()
            if self._next_try is None:
                return
            if now < self._next_try:
                raise self._unavailable()
            self._next_try = now + self.INTERVAL  # this one tries; the others wait for what becomes of it

    def _answers(self) -> bool:
        try:
            self._probe()
        except Exception:  # a detector may raise anything
            with self._lock:
                if self._next_try is None:
                    _log.critical("the detector fails on a blank image, too", exc_info=True)
                self._next_try = self._clock.now() + self.INTERVAL
            return False
        self._next_try = None
        return True

    def _unavailable(self) -> DetectorUnavailableError:
        return DetectorUnavailableError("face detection is unavailable", retry_after=int(self.INTERVAL))


class DetectorObserver(Protocol):
    """Notified of every image that was searched; called from several threads at once."""

    def detected(self, seconds: float) -> None:
        """An image was searched for faces."""


class TimedDetector:
    """A detector whose every search is reported; one that fails is not.

    Args:
        detector: finds the faces.
        clock: the time.
        observer: is notified how long each search took.
    """

    def __init__(self, detector: FaceDetector, *, clock: Clock, observer: DetectorObserver) -> None:
        self._detector = detector
        self._clock = clock
        self._observer = observer

    def detect(self, image: Pixels, *, small_faces: bool = False) -> list[DetectedFace]:
        """Return the faces of an image, as the detector does."""
        began = self._clock.now()
        found = self._detector.detect(image, small_faces=small_faces)
        self._observer.detected(self._clock.now() - began)
        return found
