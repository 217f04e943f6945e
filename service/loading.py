"""Loading: the recognizer that the settings ask for."""

from manet.recognizer import Recognizer
from service.settings import Settings


def load_recognizer(settings: Settings) -> Recognizer:
    """Return the network and the detector, loaded.

    Args:
        settings: name the weights, the engine and where it runs, and for how many threads.

    Raises:
        ManetError: if the weights are unknown, not installed or not what they should be.
        ValueError: if the engine, precision or device asked for is not to be had.
        OSError: if a file cannot be read, or the export not be kept.
    """
    return Recognizer.from_weights(
        settings.weights,
        engine=settings.backend,
        precision=settings.precision,
        device=settings.device,
        store=settings.weights_dir,
        cache=settings.cache_dir,
        threads=settings.threads,
    )
