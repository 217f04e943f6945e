"""BatchedFaceNetwork: the canvases that many threads search at the same time, in batches on one device.

There is no waiting for company: what came in while a batch ran is the next one.
"""

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from functools import partial

import numpy as np

from manet.vision.face_network import BatchFaceNetwork, Candidates
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import LARGEST_CANVAS
from service.concurrency import caller

_log = logging.getLogger("manet.detection")

MOST_CANVASES = 16
"""Canvases in a batch, at most."""

_MOST_PIXELS = MOST_CANVASES * LARGEST_CANVAS
"""Pixels of all canvases of a batch, at most, of which one may have more: what the device needs for them is bounded."""

_BLANK = np.zeros((160, 160, 3), np.uint8)

_Batch = dict[Future[Candidates], tuple[Pixels, float]]
"""Outcomes that callers wait for; of each the canvas, (height, width, 3), and the least score."""


class BatchedFaceNetwork:
    """One thread that owns the network; see ``manet.vision.face_network.FaceNetwork``.

    The oldest canvas that waits is the first of the next batch; those of its shape go with it. Where a batch fails,
    each of its canvases is tried alone, so that one which the network fails on fails alone.

    The thread is a daemon: a device that hangs cannot hold up the end of the process. If it ends, what waits and what
    comes later fails.

    Args:
        network: computes a batch.
        timeout: seconds after which a caller waits no more.

    Attributes:
        threads: the most canvases in a batch.
        running: the number of the batch that the network is at; None while it is at none.
        failing: whether it failed on a blank canvas, too, when it last failed on one, or the thread has ended.
    """

    threads = MOST_CANVASES

    def __init__(self, network: BatchFaceNetwork, *, timeout: float) -> None:
        self.running: int | None = None
        self.failing = False
        self._network = network
        self._timeout = timeout
        self._numbers = itertools.count(1)
        self._waiting: _Batch = {}  # as many as there are callers, at most
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="detection", daemon=True)
        self._thread.start()

    def candidates(self, canvas: Pixels, least: float) -> Candidates:
        """Return what may be a face on a canvas, (height, width, 3), with a score of ``least`` or more.

        Raises:
            RuntimeError: if the network fails on it, does not return in time, or was closed.
            asyncio.CancelledError: if the caller, see ``service.concurrency.caller``, leaves before it was searched.
        """
        waiting = caller()
        outcome = self.submit(canvas, least)
        if waiting is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it went the caller
                waiting.get_loop().call_soon_threadsafe(waiting.add_done_callback, partial(self._leave, outcome))
        try:
            return outcome.result(self._timeout)
        except CancelledError:
            raise asyncio.CancelledError from None
        except TimeoutError:
            self.withdraw(outcome)
            raise RuntimeError(f"face detection did not return within {self._timeout:g} s") from None
        finally:
            del outcome, waiting  # an error keeps this frame, which would keep the error, and with both the canvases

    def submit(self, canvas: Pixels, least: float) -> Future[Candidates]:
        """Hand a canvas in and return its outcome, which is set in the network's thread.

        Raises:
            RuntimeError: if the network was closed.
        """
        outcome: Future[Candidates] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("face detection has ended")
            self._waiting[outcome] = canvas, least
            self._changed.notify()
        return outcome

    def withdraw(self, outcome: Future[Candidates]) -> None:
        """Take a canvas back, if it still waits; its outcome is cancelled then."""
        with self._changed:
            waited = self._waiting.pop(outcome, None) is not None
        if waited:
            outcome.cancel()

    def _leave(self, outcome: Future[Candidates], _waiting: asyncio.Future[object]) -> None:
        self.withdraw(outcome)

    def close(self) -> None:
        """Let the thread end after the batch that it is at; what waits fails."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _work(self) -> None:
        batch: _Batch = {}
        try:
            while batch := self._take():
                self._run(batch)
                batch.clear()  # the thread may now sleep for long
        finally:  # whatever ended it, no one must wait for it
            self.failing = True
            with self._changed:
                self._closed = True
                left = [*batch, *self._waiting]
                self._waiting.clear()
            for outcome in left:
                if not outcome.done():
                    outcome.set_exception(RuntimeError("face detection has ended"))

    def _take(self) -> _Batch:
        """Return the next batch, once there is one; an empty one when there is to be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return {}
            first, least = next(iter(self._waiting.values()))
            most = max(1, min(MOST_CANVASES, _MOST_PIXELS // (first.shape[0] * first.shape[1])))
            alike = (
                outcome
                for outcome, (canvas, score) in self._waiting.items()
                if canvas.shape == first.shape and score == least
            )
            return {outcome: self._waiting.pop(outcome) for outcome in list(itertools.islice(alike, most))}

    def _run(self, batch: _Batch) -> None:
        canvases, (least, *_) = zip(*batch.values(), strict=True)
        found = self._attempt(canvases, least)
        self.failing = isinstance(found, Exception) and len(batch) == 1 and self._fails_on_all()
        if not isinstance(found, Exception):
            for outcome, candidates in zip(batch, found, strict=True):
                outcome.set_result(candidates)
        elif len(batch) == 1:
            [outcome] = batch
            outcome.set_exception(found)
        else:
            _log.warning("a batch of %d canvases failed; each is tried alone", len(batch), exc_info=found)
            for outcome, canvas in batch.items():
                self._run({outcome: canvas})

    def _fails_on_all(self) -> bool:
        """Return whether the network fails on a blank canvas."""
        outcome = self._attempt([_BLANK], 1.0)
        if isinstance(outcome, Exception):
            _log.critical("face detection fails on a blank canvas, too", exc_info=outcome)
        return isinstance(outcome, Exception)

    def _attempt(self, canvases: Sequence[Pixels], least: float) -> list[Candidates] | Exception:
        self.running = next(self._numbers)
        try:
            return self._network.batch(canvases, least)
        except Exception as error:  # a network may raise anything
            return error
        finally:
            self.running = None
