"""OpenVINOBackend: the network in OpenVINO, on a CPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import openvino

from manet.backends.base import BaseBackend, Logits
from manet.backends.openvino.arithmetic import Float32, Int8
from manet.backends.openvino.calibration import Calibration
from manet.backends.openvino.graph import build
from manet.backends.openvino.runtime import core
from manet.backends.selection import Choice, Precision
from manet.errors import CheckpointError
from manet.files import recorded_sha256
from manet.vision.preprocess import Pixels
from manet.weights.entry import Weights
from manet.weights.parameters import read_parameters
from manet.weights.registry import locate, locate_calibration

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""The batch sizes that OpenVINO is given; a batch in between is filled up with blanks, a larger one is cut.

For each size that it meets it compiles the network again, which takes 15 to 100 ms, and keeps 3 to 15 MB for ever (seen
with 2026.4 at 80 px): with every size up to 32 that made stalls of a quarter of a second and 750 MB.
"""

_HINTS = {"float32": "f32", "bf16": "bf16", "int8": "f32"}
"""What OpenVINO calls the number formats; in an int8 network it is the format of what was not rounded."""


class Request:
    """One part of a batch on its way through a compiled network, and room to fill it up in.

    Args:
        network: compiled, from uint8 (N, S, S, 3) to float32 (N, classes).
        side: S.
    """

    def __init__(self, network: openvino.CompiledModel, side: int) -> None:
        self._request = network.create_infer_request()
        self._filled: Pixels = np.zeros((SIZES[-1], side, side, 3), dtype=np.uint8)
        self._count = 0

    def start(self, images: Pixels) -> None:
        """Begin with 1 to 32 images, (N, S, S, 3), which must stay as they are until the end."""
        self._count = count = len(images)
        if (size := padded(count)) > count:
            self._filled[:count] = images
            images = self._filled[:size]  # beyond the count lies what earlier batches left; no one reads its logits
        self._request.start_async([images], share_inputs=True)

    def wait(self) -> None:
        """Return when it has ended.

        Raises:
            RuntimeError: if OpenVINO fails.
        """
        self._request.wait()

    @property
    def logits(self) -> Logits:
        """Of what it was last given, (N, classes); of the next part from its start on."""
        found: Logits = self._request.get_output_tensor().data[: self._count]
        return found


class Network:
    """The network, compiled for a few images at once and, when they first come, for many.

    Threads that share an image wait for each other at the end of every layer, and all of them wait whenever something
    else takes a processor from one. Threads that have images of their own do not: in int8 two answer 1.15 to 1.25 times
    as many, from the second image on, in float32 and bf16 as many (``bench/results/engines.json``).

    The network for many is compiled in the background, and until it is ready the other one answers. A start need not
    wait for it, and a process that is given single images only does without (``bench/results/first_batches.json``).

    Args:
        shared: all threads work on it.
        apart: returns one for each thread, which are its own. None: ``shared`` answers all.
        threads: how many ``apart`` returns.
    """

    def __init__(self, shared: Request, apart: Callable[[], Sequence[Request]] | None, threads: int) -> None:
        self._shared = shared
        self._load = apart
        self._threads = threads
        self._apart: Future[Sequence[Request]] | None = None

    def prepare(self) -> None:
        """Be ready for many images, too.

        Raises:
            RuntimeError: if OpenVINO fails.
        """
        if (coming := self._coming()) is not None:
            coming.result()

    def infer(self, images: Pixels) -> Logits:
        """Return the logits, (N, classes), of images (N, S, S, 3).

        Raises:
            RuntimeError: if OpenVINO fails.
        """
        requests = self._requests(len(images))
        most = SIZES[-1] * len(requests)
        return np.concatenate([_infer(requests, images[k : k + most]) for k in range(0, len(images), most)])

    def _requests(self, count: int) -> Sequence[Request]:
        coming = self._coming() if count >= self._threads else None
        return coming.result() if coming is not None and coming.done() else [self._shared]

    def _coming(self) -> "Future[Sequence[Request]] | None":
        """Return the requests for many images, which are being made from the first call on."""
        if self._load is not None:
            self._apart = ThreadPoolExecutor(1).submit(self._load)
            self._load = None  # which holds the graph, 50 MB
        return self._apart


def _infer(requests: Sequence[Request], images: Pixels) -> Logits:
    """Return the logits of as many images as the requests take at once."""
    with ExitStack() as running:
        for request, part in zip(requests, np.array_split(images, len(requests)), strict=True):
            request.start(part)
            running.callback(request.wait)  # for all, also if one fails: none may run on into the next batch
    return np.concatenate([request.logits for request in requests])


class OpenVINOBackend(BaseBackend[Network]):
    """OpenVINO as a backend; see ``manet.backends.base.Backend``."""

    name = "openvino"
    device = "cpu"

    def _warmed(self, _network: Network, batch_sizes: Sequence[int]) -> Sequence[int]:
        """Return the least batch: a network's first one, of any size, takes 50 to 200 ms more.

        Any other size takes 3 to 24 ms more the first time, less than the blank batch would that prepares for it.
        """
        return [min(batch_sizes)]

    def _logits(self, network: Network, images: Pixels) -> Logits:
        return network.infer(images)


def padded(count: int) -> int:
    """Return the size in which a part of 1 to 32 images runs: the least of ``SIZES`` that holds it."""
    return next(size for size in SIZES if size >= count)


def load(weights: Weights, chosen: Choice, *, threads: int, store: Path | None) -> OpenVINOBackend:
    """Return the backend for these weights; see ``manet.backends.factory.load_backend``."""
    side, precision = weights.preprocessing.input_size, chosen.precision
    network = network_of(weights, precision, threads=threads, store=store)
    return OpenVINOBackend(network, side=side, precision=precision, reason=chosen.reason)


def network_of(weights: Weights, precision: Precision, *, threads: int, store: Path | None) -> Network:
    """Return the network of these weights, ready to answer; arguments and errors are those of ``graph_of``."""
    graph = graph_of(weights, precision, store=store)
    apart = precision == "int8"  # in the others it takes 250 MB, and gives nothing
    side = weights.preprocessing.input_size
    return compiled(graph, side=side, precision=precision, threads=threads, apart=apart)


def graph_of(weights: Weights, precision: Precision, *, store: Path | None) -> openvino.Model:
    """Return the network as it is to be compiled, from uint8 (N, S, S, 3) to float32 (N, classes).

    Args:
        weights: as they are installed here.
        precision: the number format that it will run in.
        store: folder of weights that the user imported; None means the default one.

    Raises:
        WeightsNotInstalledError: if the weights' file is not on this machine.
        CheckpointError: if a file is not what it should be, or int8 is requested and no calibration fits.
    """
    path = locate(weights, store)
    arithmetic = Int8(_calibration(weights, path, store)) if precision == "int8" else Float32()
    parameters = read_parameters(path, num_classes=len(weights.classes), wiring=weights.wiring, sha256=weights.sha256)
    return build(weights, parameters, arithmetic)


def _calibration(weights: Weights, path: Path, store: Path | None) -> Calibration:
    found = locate_calibration(weights, store)
    if found is None:
        raise CheckpointError(f"weights {weights.id!r} have no int8 calibration; `manet-train quantize` makes one")
    calibration = Calibration.load(found)
    if calibration.weights_sha256 != (weights.sha256 or recorded_sha256(path)):
        raise CheckpointError(f"{found}: measured with other weights; `manet-train quantize` makes one for these")
    return calibration


def compiled(graph: openvino.Model, *, side: int, precision: Precision, threads: int, apart: bool) -> Network:
    """Return a network that is ready to answer.

    Args:
        graph: of ``manet.backends.openvino.graph.build``.
        side: S of its input, in pixels.
        precision: the number format of what is not in int8 already.
        threads: of the CPU, at least 1.
        apart: whether each is to have images of its own where there are enough.

    Raises:
        RuntimeError: if OpenVINO fails.
    """
    options = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": "NO",  # a thread that is tied to a processor waits for whatever else runs there
    }
    most = min(threads, SIZES[-1])

    def in_streams(count: int) -> openvino.CompiledModel:
        return core().compile_model(graph, "CPU", options | {"NUM_STREAMS": str(count)})

    def many() -> Sequence[Request]:
        network = in_streams(most)
        requests = [Request(network, side) for _ in range(most)]
        _infer(requests, np.zeros((most, side, side, 3), dtype=np.uint8))  # the first batch prepares the weights
        return requests

    return Network(Request(in_streams(1), side), many if apart and most > 1 else None, most)
