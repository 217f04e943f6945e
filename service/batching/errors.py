"""The errors of batching: why a face that was handed in got no logits.

.. code-block:: text

    BatchingError
    ├── QueueFull           there is no room; nothing was queued
    ├── DeadlinePassed      its time was up before the engine came to it
    ├── ItemFailed          the engine works, but not on this item
    └── EngineUnavailable   the engine does not answer, or has been stopped
        ├── EngineHung      it did not return in time
        └── EngineGone      it was lost, and none is built in its place
"""


class BatchingError(Exception):
    """The root: anything that batching raises on purpose."""


class QueueFull(BatchingError):
    """There is no room for the whole group; nothing of it was queued."""


class DeadlinePassed(BatchingError):
    """The item's deadline passed while it waited; it never reached the engine."""


class ItemFailed(BatchingError):
    """The engine answers for others, but fails on this item."""


class EngineUnavailable(BatchingError):
    """The engine does not answer, or has been stopped."""


class EngineHung(EngineUnavailable):
    """The engine did not return in time."""


class EngineGone(EngineUnavailable):
    """The engine was lost, and none is built in its place; a new process is needed."""
