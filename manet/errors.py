"""The errors of ``manet``: one tree, so that a caller can catch as much of it as suits.

.. code-block:: text

    ManetError
    ├── CheckpointError           a file is not a checkpoint of this network
    │   └── ChecksumError         a file is not, byte for byte, the one that was expected
    ├── OfflineRunError           a folder cannot take, or did not get, all answers of an offline run
    ├── ImageError                bytes that give no image
    │   ├── ImageTooLargeError    more bytes or pixels than the limits allow
    │   ├── ImageFormatError      not one of the formats that are read
    │   └── ImageCorruptError     one of the formats, but truncated, corrupt or empty
    ├── UnknownWeightsError       no weights are registered under that name
    ├── VideoError                a file gives no frames, or a copy of one cannot be written
    └── WeightsNotInstalledError  the weights are known, but their file is not here

Every message is one line that names what was expected and what was found.
"""


class ManetError(Exception):
    """The root: anything that ``manet`` raises on purpose."""


class CheckpointError(ManetError):
    """A file is not a checkpoint of this network: unreadable, refused, or with a wrong key, shape or class count."""


class ChecksumError(CheckpointError):
    """A file's SHA-256 is not the one that was written down for it."""


class UnknownWeightsError(ManetError):
    """No weights are registered under the name requested."""


class WeightsNotInstalledError(ManetError):
    """The weights requested are registered, but their file is not on this machine."""


class OfflineRunError(ManetError):
    """A folder holds answers to something else, an offline run has no images, or some of its parts failed."""


class VideoError(ManetError):
    """A file gives no frames, or a copy of one cannot be written; the message does not name it."""


class ImageError(ManetError):
    """Bytes that give no image; the message holds nothing of the image itself."""


class ImageTooLargeError(ImageError):
    """An image has more bytes or pixels than the limits allow."""


class ImageFormatError(ImageError):
    """An image is not in one of the formats that are read."""


class ImageCorruptError(ImageError):
    """An image is truncated, corrupt or empty."""
