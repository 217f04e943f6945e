"""MA-Net: apparent facial expressions, from pixels to probabilities.

Names are loaded when they are first requested, so that ``import manet`` costs nothing and only what needs PyTorch
loads it.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manet.errors import ManetError
    from manet.labels import CLASS_ORDERS, Expression
    from manet.nn.model import MANet, fuse
    from manet.recognizer import RecognizedFace, Recognizer
    from manet.vision.faces import DetectedFace
    from manet.weights.checkpoint import load_model
    from manet.weights.entry import Weights

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
    "DetectedFace": "vision.faces",
    "Expression": "labels",
    "MANet": "nn.model",
    "ManetError": "errors",
    "RecognizedFace": "recognizer",
    "Recognizer": "recognizer",
    "Weights": "weights.entry",
    "fuse": "nn.model",
    "load_model": "weights.checkpoint",
}
"""Public name to the module that it lives in."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        return version("manet")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        needed = f"{__name__}.{name} needs PyTorch, which is not installed: pip install 'manet[gpu]'"
        raise ModuleNotFoundError(needed, name="torch") from error
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
