"""Admission: whether a request is admitted, decided before a byte of it is read, and what it then may hold.

A body on its way in holds its bytes and nothing else. A place among the images in flight is taken when the body is
there: else a hundred senders that dawdle would hold all of them and do nothing.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from service.clock import Clock
from service.errors import RETRY_SECONDS, DrainingError, NotReadyError, OverloadedError


class Engine(Protocol):
    """What admission asks about the network; ``service.batching.scheduler.Scheduler`` answers it."""

    @property
    def alive(self) -> bool:
        """Whether the network has answered lately."""

    @property
    def reason(self) -> str:
        """Why it is not alive."""

    def expected_wait(self, ahead: int = 0) -> float:
        """Return the seconds until an item handed in now, behind ``ahead`` others to come, should be answered."""


class ShedObserver(Protocol):
    """Notified of every refusal."""

    def shed(self, reason: str) -> None:
        """An image was refused; the reason is one of ``REASONS``."""


REASONS = ("draining", "not_ready", "uploads", "images", "bytes", "deadline")
"""Why an image is refused: the service stops, the network does not answer, a bound is reached, it would be late."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What is in flight at once, at most.

    Attributes:
        uploads: bodies on their way in.
        images: images, from the end of their upload to the answer.
        bytes: bytes of bodies, from their arrival to the answer.
        deadline: seconds in which an image must be answered.
    """

    uploads: int
    images: int
    bytes: int
    deadline: float


Kind = Literal["uploads", "images", "bytes", "ahead", "explanations"]
"""What is counted: bodies on their way in, images in flight, bytes of bodies, images whose faces do not stand in the
network's own queue yet, and images that are explained or wait for it."""


class Usage(Protocol):
    """Counts what is in flight. The bounds hold for the whole service, however many processes it has."""

    def total(self, kind: Kind) -> int:
        """Return how much the whole service holds."""

    def add(self, kind: Kind, amount: int) -> None:
        """Hold so much more, or less, whatever the bound."""

    def reserve(self, kind: Kind, amount: int, most: int) -> bool:
        """Hold so much more if the whole service then holds no more than ``most``; return whether it does."""


class OwnUsage:
    """The usage of a service that is one process."""

    def __init__(self) -> None:
        self._held: dict[Kind, int] = dict.fromkeys(get_args(Kind), 0)

    def total(self, kind: Kind) -> int:
        """Return how much is held."""
        return self._held[kind]

    def add(self, kind: Kind, amount: int) -> None:
        """Hold so much more, or less."""
        self._held[kind] += amount

    def reserve(self, kind: Kind, amount: int, most: int) -> bool:
        """Hold so much more if that is no more than ``most`` altogether; return whether it is."""
        if self._held[kind] + amount > most:
            return False
        self._held[kind] += amount
        return True


class Ticket:
    """An image that was admitted.

    Args:
        deadline: when its answer is worth nothing any more, in seconds of the clock.
        usage: counts the images whose faces do not stand in the network's own queue yet; this becomes one of them.
    """

    def __init__(self, deadline: float, usage: Usage) -> None:
        self.deadline = deadline
        self._usage = usage
        self._ahead = True
        usage.add("ahead", 1)

    def leave(self) -> None:
        """Count no more: its faces stand in the network's queue, which counts them, or it is answered."""
        if self._ahead:
            self._ahead = False
            self._usage.add("ahead", -1)


class Upload:
    """A body that was admitted; its bytes count as they arrive.

    Args:
        admission: what admitted it.
    """

    def __init__(self, admission: "Admission") -> None:
        self.size = 0
        self.arriving = True
        self._admission = admission

    def add(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            OverloadedError: if that is more than may be in memory at once.
        """
        self._admission.hold(size)
        self.size += size


class Admission:
    """Lets images in as long as the bounds hold and they can still be answered in time.

    Decoded pixels have a bound of their own, where they are decoded (``service.inference.predictor``).

    Args:
        bounds: what is in flight at once, at most.
        engine: the network.
        clock: the time.
        observer: is notified of every refusal.
        usage: what is in flight; by default this process is the whole service.
    """

    def __init__(
        self,
        bounds: AdmissionLimits,
        *,
        engine: Engine,
        clock: Clock,
        observer: ShedObserver,
        usage: Usage | None = None,
    ) -> None:
        self.draining = False
        self._bounds = bounds
        self._engine = engine
        self._clock = clock
        self._observer = observer
        self._usage = OwnUsage() if usage is None else usage

    @property
    def uploads(self) -> int:
        """Bodies on their way in."""
        return self._usage.total("uploads")

    @property
    def images(self) -> int:
        """Images in flight."""
        return self._usage.total("images")

    @property
    def bytes(self) -> int:
        """Bytes of bodies in memory."""
        return self._usage.total("bytes")

    @property
    def ready(self) -> bool:
        """Whether images are admitted at all."""
        return not self.draining and self._engine.alive

    def check(self) -> None:
        """Return if images are admitted at all, as things stand now.

        Raises:
            DrainingError: if the service is being stopped.
            NotReadyError: if the network does not answer.
            OverloadedError: if all places are taken, or the answer would come too late.
        """
        if self.draining:
            self._observer.shed("draining")
            raise DrainingError("the service is being stopped")
        self._refuse_image()

    @contextmanager
    def receive(self, size: int) -> Iterator[Upload]:
        """Hold a body's bytes while inside.

        Args:
            size: the largest number of bytes that it can have.

        Raises:
            DrainingError: if the service is being stopped.
            NotReadyError: if the network does not answer.
            OverloadedError: if a bound is reached, or the answer would come too late.
        """
        self.check()
        self._refuse_if(uploads=not self._usage.reserve("uploads", 1, self._bounds.uploads))
        upload = Upload(self)
        try:
            self._refuse_if(bytes=self.bytes + size > self._bounds.bytes)
            yield upload
        finally:
            self._end(upload)
            self._usage.add("bytes", -upload.size)

    def hold(self, size: int) -> None:
        """Count bytes that have arrived; the receiver gives them back.

        Raises:
            OverloadedError: if that is more than may be in memory at once.
        """
        self._refuse_if(bytes=not self._usage.reserve("bytes", size, self._bounds.bytes))

    @contextmanager
    def admit(self, upload: Upload) -> Iterator[Ticket]:
        """Hold an image's place while inside, though the service may be being stopped: its body was admitted before.

        Args:
            upload: the body that the image came in, which is there now.

        Raises:
            NotReadyError: if the network does not answer.
            OverloadedError: if there is no place, or the answer would come too late.
        """
        self._end(upload)
        self._refuse_image()
        self._refuse_if(images=not self._usage.reserve("images", 1, self._bounds.images))
        ticket = Ticket(self._clock.now() + self._bounds.deadline, self._usage)
        try:
            yield ticket
        finally:
            self._usage.add("images", -1)
            ticket.leave()

    def _end(self, upload: Upload) -> None:
        """Count a body as arrived, or as given up."""
        if upload.arriving:
            upload.arriving = False
            self._usage.add("uploads", -1)

    def _refuse_image(self) -> None:
        if not self._engine.alive:
            self._observer.shed("not_ready")
            raise NotReadyError(self._engine.reason)
        # An image whose faces are not queued yet stands for one face: most images have one.
        wait = self._engine.expected_wait(ahead=self._usage.total("ahead"))
        late = wait - self._bounds.deadline
        retry = max(RETRY_SECONDS, math.ceil(late))
        self._refuse_if(images=self.images >= self._bounds.images, deadline=late > 0, retry_after=retry)

    def _refuse_if(self, *, retry_after: int = RETRY_SECONDS, **reached: bool) -> None:
        for reason, is_reached in reached.items():
            if is_reached:
                self._observer.shed(reason)
                raise OverloadedError(_SENTENCES[reason], retry_after=retry_after)


_SENTENCES = {
    "uploads": "too many uploads in progress",
    "images": "too many images in flight",
    "bytes": "too many bytes of uploads in memory",
    "deadline": "the answer would come after the deadline",
}
