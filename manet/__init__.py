"""MA-Net: apparent facial expressions, from pixels to probabilities.

Names are loaded when they are first asked for, so that ``import manet`` costs nothing and only what needs PyTorch
loads it.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manet.checkpoint import load_model
    from manet.errors import ManetError
    from manet.faces import DetectedFace
    from manet.labels import CLASS_ORDERS, Expression
    from manet.model import MANet, fuse
    from manet.recognizer import RecognizedFace, Recognizer
    from manet.weights import Weights

    __version__: str

__all__ = [
    "CLASS_ORDERS",
    "DetectedFace",
    "Expression",
    "MANet",
    "ManetError",
    "RecognizedFace",
    "Recognizer",
    "Weights",
    "__version__",
    "fuse",
    "load_model",
]

_HOMES = {
    "CLASS_ORDERS": "labels",
    "DetectedFace": "faces",
    "Expression": "labels",
    "MANet": "model",
    "ManetError": "errors",
    "RecognizedFace": "recognizer",
    "Recognizer": "recognizer",
    "Weights": "weights",
    "fuse": "model",
    "load_model": "checkpoint",
}
"""Public name to the module that it lives in."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        return version("manet")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
