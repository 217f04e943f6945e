"""The errors of batching: why a face that was handed in got no logits.

.. code-block:: text

    BatchingError
    ├── QueueFullError          there is no room; nothing was queued
    ├── DeadlinePassedError     its time was up before the engine came to it
    ├── ItemFailedError         the engine works, but not on this item
    └── EngineUnavailableError  the engine does not answer, or has been stopped
        ├── EngineTimeoutError  it did not return in time
        └── EngineLostError     it was lost, and none is built in its place
"""


class BatchingError(Exception):
    """The root: anything that batching raises on purpose."""


class QueueFullError(BatchingError):
    """There is no room for the whole group; nothing of it was queued."""


class DeadlinePassedError(BatchingError):
    """The item's deadline passed while it waited; it never reached the engine."""


class ItemFailedError(BatchingError):
    """The engine answers for others, but fails on this item."""


class EngineUnavailableError(BatchingError):
    """The engine does not answer, or has been stopped."""


class EngineTimeoutError(EngineUnavailableError):
    """The engine did not return in time."""


class EngineLostError(EngineUnavailableError):
    """The engine was lost, and none is built in its place; a new process is needed."""
