"""The errors of the service: each class carries its HTTP status and its problem type (RFC 9457).

.. code-block:: text

    ServiceError
    ├── MalformedRequestError         400  the body is not of the form that is read here
    ├── InvalidTensorError            400  a tensor is not what the network takes, or not one that it gives
    ├── UnauthorizedError             401  no key, or one that is not known
    ├── PathNotFoundError             404  there is nothing at this path
    ├── NoModelCardError              404  no one wrote a model card for these weights
    ├── UnknownModelError             404  the model requested, or its version, is not the one that is loaded
    ├── MethodNotAllowedError         405  the path has no such method
    ├── UploadTimedOutError           408  the body did not arrive in time
    ├── HeadTimedOutError             408  the head did not arrive in time
    ├── PayloadTooLargeError          413  too many bytes or pixels
    ├── TargetTooLongError            414  the target of the request is longer than any here
    ├── UnsupportedImageError         415  no image format that is read
    ├── UnsupportedEncodingError      415  the body is compressed in a way that is not read
    ├── InvalidParameterError         422  a parameter or a form field is missing or wrong
    ├── BrokenImageError              422  one of the formats, but truncated, corrupt or empty
    ├── OverloadedError               429  more work than can be answered in time; try again later
    ├── RateLimitedError              429  this client sends more than it may
    ├── HeadTooLargeError             431  the head has too many bytes or fields
    ├── DetectionFailedError          500  the detector fails on this image
    ├── FaceFailedError               500  the network fails on one face of this image
    ├── InternalError                 500  a defect of the service
    ├── ExplanationsUnavailableError  501  what explanations need is not installed here
    ├── DetectorUnavailableError      503  the detector fails on every image; crops are answered
    ├── NotReadyError                 503  the network does not answer
    ├── DrainingError                 503  the service is being stopped
    └── DeadlineExceededError         504  the answer would have come too late
"""

from http import HTTPStatus
from typing import ClassVar

from manet.errors import ImageCorruptError, ImageError, ImageFormatError, ImageTooLargeError
from service.batching.errors import (
    BatchingError,
    DeadlinePassedError,
    EngineUnavailableError,
    ItemFailedError,
    QueueFullError,
)

NAMESPACE = "urn:manet:problem:"
"""What every problem type begins with."""

RETRY_SECONDS = 1
"""How long a client is asked to wait where nothing better is known."""

RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""Statuses that always say when to try again (RFC 6585, section 4; RFC 9110, section 15.6.4)."""


class ServiceError(Exception):
    """The root: anything that a request is answered with but success.

    Args:
        detail: one sentence for the client; nothing of the image, no path, no name.
        retry_after: seconds after which the same request may succeed; None leaves it to the status.
    """

    status: ClassVar[HTTPStatus]
    problem: ClassVar[str]
    """The last part of the problem type; it never changes."""
    title: ClassVar[str]

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = RETRY_SECONDS if retry_after is None and self.status in RETRIED else retry_after


class MalformedRequestError(ServiceError):
    """The body is not of the form that is read here."""

    status, problem, title = HTTPStatus.BAD_REQUEST, "malformed-request", "The request could not be read"


class InvalidTensorError(ServiceError):
    """A tensor is not what the network takes, or not one that it gives."""

    status, problem, title = HTTPStatus.BAD_REQUEST, "invalid-tensor", "A tensor is not what the model's metadata says"


class PathNotFoundError(ServiceError):
    """There is nothing at this path."""

    status, problem, title = HTTPStatus.NOT_FOUND, "not-found", "There is nothing at this path"


class UnauthorizedError(ServiceError):
    """The request has no API key, or one that is not known."""

    status, problem, title = HTTPStatus.UNAUTHORIZED, "unauthorized", "An API key is needed"


class NoModelCardError(ServiceError):
    """No one wrote a model card for these weights."""

    status, problem, title = HTTPStatus.NOT_FOUND, "no-model-card", "There is no model card"


class UnknownModelError(ServiceError):
    """The model requested, or its version, is not the one that is loaded."""

    status, problem, title = HTTPStatus.NOT_FOUND, "unknown-model", "Another model is loaded"


class MethodNotAllowedError(ServiceError):
    """The path has no such method; the header ``Allow`` names those that it has."""

    status, problem, title = HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", "The path has no such method"


class UploadTimedOutError(ServiceError):
    """The body did not arrive in time."""

    status, problem, title = HTTPStatus.REQUEST_TIMEOUT, "upload-timed-out", "The upload took too long"


class HeadTimedOutError(ServiceError):
    """The head did not arrive in time."""

    status, problem, title = HTTPStatus.REQUEST_TIMEOUT, "head-timed-out", "The head of the request took too long"


class PayloadTooLargeError(ServiceError):
    """Too many bytes or pixels."""

    status, problem = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "payload-too-large"
    title = "The upload is larger than the limits allow"


class TargetTooLongError(ServiceError):
    """The target of the request is longer than any here."""

    status, problem, title = HTTPStatus.REQUEST_URI_TOO_LONG, "target-too-long", "The target of the request is too long"


class UnsupportedImageError(ServiceError):
    """No image format that is read."""

    status, problem = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-image"
    title = "Not an image format that is read"


class UnsupportedEncodingError(ServiceError):
    """The body is compressed in a way that is not read."""

    status, problem = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding"
    title = "Not a content encoding that is read"


class InvalidParameterError(ServiceError):
    """A parameter or a form field is missing or wrong."""

    status, problem = HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-parameter"
    title = "A parameter is missing or wrong"


class BrokenImageError(ServiceError):
    """One of the formats, but truncated, corrupt or empty."""

    status, problem = HTTPStatus.UNPROCESSABLE_ENTITY, "broken-image"
    title = "The image is broken"


class OverloadedError(ServiceError):
    """More work than can be answered in time."""

    status, problem, title = HTTPStatus.TOO_MANY_REQUESTS, "overloaded", "Too much work at once"


class RateLimitedError(ServiceError):
    """This client sends more requests than it may, whatever others do."""

    status, problem = HTTPStatus.TOO_MANY_REQUESTS, "rate-limited"
    title = "Too many requests from one client"


class HeadTooLargeError(ServiceError):
    """The head has too many bytes or fields."""

    status, problem = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large"
    title = "The head of the request is larger than the limits allow"


class DetectionFailedError(ServiceError):
    """The detector fails on this image, and answers for others."""

    status, problem = HTTPStatus.INTERNAL_SERVER_ERROR, "detection-failed"
    title = "The detector failed on this image"


class FaceFailedError(ServiceError):
    """The network fails on one face of this image."""

    status, problem = HTTPStatus.INTERNAL_SERVER_ERROR, "face-failed"
    title = "The network failed on a face of this image"


class InternalError(ServiceError):
    """A defect of the service."""

    status, problem, title = HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "The service failed"


class DetectorUnavailableError(ServiceError):
    """The detector fails on every image; ``faces=whole`` is answered."""

    status, problem = HTTPStatus.SERVICE_UNAVAILABLE, "detector-unavailable"
    title = "Face detection is unavailable"


class ExplanationsUnavailableError(ServiceError):
    """What explanations need is not installed on this server."""

    status, problem = HTTPStatus.NOT_IMPLEMENTED, "explanations-unavailable"
    title = "Explanations are not installed here"


class NotReadyError(ServiceError):
    """The network does not answer."""

    status, problem, title = HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "The service is not ready"


class DrainingError(ServiceError):
    """The service is being stopped."""

    status, problem, title = HTTPStatus.SERVICE_UNAVAILABLE, "draining", "The service is being stopped"


class DeadlineExceededError(ServiceError):
    """The answer would have come too late."""

    status, problem, title = HTTPStatus.GATEWAY_TIMEOUT, "deadline-exceeded", "The answer would have come too late"


_TRANSLATIONS: tuple[tuple[type[Exception], type[ServiceError]], ...] = (
    (ImageTooLargeError, PayloadTooLargeError),
    (ImageFormatError, UnsupportedImageError),
    (ImageCorruptError, BrokenImageError),
    (QueueFullError, OverloadedError),
    (DeadlinePassedError, DeadlineExceededError),
    (ItemFailedError, FaceFailedError),
    (EngineUnavailableError, NotReadyError),
)


def translate(error: ImageError | BatchingError) -> ServiceError:
    """Return what an error of a room below means to the client."""
    kind = next(meaning for known, meaning in _TRANSLATIONS if isinstance(error, known))
    return kind(str(error))
