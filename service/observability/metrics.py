"""Metrics: what the service counts and times, for Prometheus. Labels are few and known in advance."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from service.admission import REASONS
from service.inference.stream_session import OUTCOMES

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The service's own registry; it observes admission, the scheduler and every request.

    Args:
        counter: makes each counter, and
        histogram: each histogram, with the arguments of Prometheus's own.
    """

    def __init__(self, counter: Callable[..., Any] = Counter, histogram: Callable[..., Any] = Histogram) -> None:
        self.registry = CollectorRegistry()
        self._requests = counter("manet_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self._request_seconds = histogram(
            "manet_request_seconds", "From request to answer.", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self._shed = counter("manet_shed", "Images rejected at admission.", ["reason"], registry=self.registry)
        for reason in REASONS:
            self._shed.labels(reason)
        self._find_seconds = histogram(
            "manet_find_seconds", "Decoding an image and finding its faces.", buckets=_SECONDS, registry=self.registry
        )
        self._detect_seconds = histogram(
            "manet_detect_seconds", "Searching an image for faces.", buckets=_SECONDS, registry=self.registry
        )
        self._faces = counter("manet_faces", "Faces answered.", registry=self.registry)
        self._queue_seconds = histogram(
            "manet_queue_seconds", "A face's wait for the network.", buckets=_SECONDS, registry=self.registry
        )
        self._batch_size = histogram("manet_batch_size", "Faces in a batch.", buckets=_SIZES, registry=self.registry)
        self._batch_seconds = histogram(
            "manet_batch_seconds", "A batch in the network.", buckets=_SECONDS, registry=self.registry
        )
        self._frames = counter("manet_stream_frames", "Frames of streams.", ["outcome"], registry=self.registry)
        for outcome in OUTCOMES:
            self._frames.labels(outcome)
        self._frame_seconds = histogram(
            "manet_stream_age_seconds", "From a frame to its answer.", buckets=_SECONDS, registry=self.registry
        )
        self._failed = counter("manet_batches_failed", "Batches that failed in the network.", registry=self.registry)

    def watch(self, name: str, help: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is requested whenever the metrics are read."""
        Gauge(name, help, registry=self.registry).set_function(value)

    def build(self, **facts: str) -> None:
        """Report what serves, once: its version, weights, engine."""
        Info("manet_build", "What serves.", registry=self.registry).info(facts)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is one of the application's paths, or ``other``."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def found(self, seconds: float) -> None:
        """An image was decoded and its faces found."""
        self._find_seconds.observe(seconds)

    def detected(self, seconds: float) -> None:
        """An image was searched for faces."""
        self._detect_seconds.observe(seconds)

    def recognized(self, faces: int) -> None:
        """So many faces were answered."""
        self._faces.inc(faces)

    def shed(self, reason: str) -> None:
        """An image was rejected at admission."""
        self._shed.labels(reason).inc()

    def frame(self, outcome: str) -> None:
        """A frame of a stream was dealt with."""
        self._frames.labels(outcome).inc()

    def frame_answered(self, seconds: float) -> None:
        """A frame's faces were sent so long after it arrived."""
        self._frame_seconds.observe(seconds)

    def waited(self, seconds: float) -> None:
        """A face left the queue for the network after so long."""
        self._queue_seconds.observe(seconds)

    def completed(self, size: int, seconds: float) -> None:
        """A batch came back."""
        self._batch_size.observe(size)
        self._batch_seconds.observe(seconds)

    def failed(self) -> None:
        """A batch failed."""
        self._failed.inc()
