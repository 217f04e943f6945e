"""Channel: the notes that a front end and the engine's process send each other; what they are about lies in slots.

Notes are packets of a Unix socket (SOCK_SEQPACKET): whole or not at all, in order, and the end is seen at once when the
process at the other side is gone, however it went.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn

from service.batching.errors import (
    BatchingError,
    DeadlinePassedError,
    EngineUnavailableError,
    ItemFailedError,
    QueueFullError,
)

_log = logging.getLogger("manet.channel")

BUFFER = 1 << 20
"""Bytes that a socket holds, as far as the system allows."""

MOST_SLOTS = 16_384
"""Slots of a front end, so that the note of a group of all of them still is one packet."""

_PACKET = 1 << 17
"""Bytes in a packet, at most."""

_REQUEST = struct.Struct("<QQdI")  # group, lane, deadline, faces; their slots follow. No faces: the caller left.
_RESULT = struct.Struct("<QBddIH")  # group, outcome, started, answered, largest batch, length; the reason follows

LOOK = struct.Struct("<IIId")
"""A canvas on which a front end has faces looked for: the slot where it lies, which is not used again before the
answer, its height and width in pixels, and the least score of a candidate. No height: the caller left."""

SEEN = struct.Struct("<Ii")
"""What became of a canvas: its slot, which is the front end's again, and its number of candidates, or ``FAILED``, or
``WITHDRAWN``: it was not looked at."""

ANSWERED, LEFT = 0, 255
FAILED, WITHDRAWN = -1, -2
ERRORS: tuple[type[BatchingError], ...] = (
    EngineUnavailableError,
    QueueFullError,
    DeadlinePassedError,
    ItemFailedError,
)
"""Outcome k + 1 of a group is the k-th of these; an error that is none of them is the first."""


class Request(NamedTuple):
    """A group of faces that a front end hands in, or, without slots, takes back.

    Attributes:
        group: its number.
        lane: whose it is; see ``service.batching.queue.Item``.
        deadline: in seconds of the clock.
        slots: where the network inputs lie.
    """

    group: int
    lane: int
    deadline: float
    slots: Sequence[int]

    def pack(self) -> bytes:
        """Return the note."""
        head = _REQUEST.pack(self.group, self.lane, self.deadline, len(self.slots))
        return head + struct.pack(f"<{len(self.slots)}I", *self.slots)

    @classmethod
    def unpack(cls, packet: bytes) -> "Iterator[Request]":
        """Yield the notes of a packet."""
        at = 0
        while at < len(packet):
            group, lane, deadline, count = _REQUEST.unpack_from(packet, at)
            at += _REQUEST.size
            yield cls(group, lane, deadline, struct.unpack_from(f"<{count}I", packet, at))
            at += 4 * count


class Result(NamedTuple):
    """What became of a group; its logits lie in its slots, which are the front end's again.

    Attributes:
        group: its number.
        outcome: ``ANSWERED``, ``LEFT``, or 1 plus a place in ``ERRORS``.
        started: when the last of its faces reached the engine, in seconds of the clock.
        answered: when the last of them was answered.
        batch: the size of the largest batch that one of them was in.
        reason: what an error says.
    """

    group: int
    outcome: int
    started: float = 0.0
    answered: float = 0.0
    batch: int = 0
    reason: str = ""

    @classmethod
    def of(cls, group: int, error: BatchingError) -> "Result":
        """Return the result of a group that failed."""
        kinds = [place for place, kind in enumerate(ERRORS) if isinstance(error, kind)]
        return cls(group, 1 + (kinds or [0])[0], reason=str(error))

    def error(self) -> BatchingError:
        """Return the error that the group failed with."""
        return ERRORS[self.outcome - 1](self.reason)

    def pack(self) -> bytes:
        """Return the note."""
        reason = self.reason.encode()
        head = (self.group, self.outcome, self.started, self.answered, self.batch, len(reason))
        return _RESULT.pack(*head) + reason

    @classmethod
    def unpack(cls, packet: bytes) -> "Iterator[Result]":
        """Yield the notes of a packet."""
        at = 0
        while at < len(packet):
            group, outcome, started, answered, batch, length = _RESULT.unpack_from(packet, at)
            at += _RESULT.size + length
            yield cls(group, outcome, started, answered, batch, packet[at - length : at].decode())


def give_up(reason: str) -> NoReturn:
    """End this process at once, which has no working connection to another one; the supervisor starts a new one.

    Args:
        reason: for the log.
    """
    _log.critical("%s; this process ends", reason)
    logging.shutdown()
    os._exit(1)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two sockets that are connected, with large buffers."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        end.setblocking(False)
    return ends


class Channel:
    """One end. Notes of one round of the loop leave as one packet.

    Args:
        end: connected; it is closed when the other side is gone.
        take: is given every packet.
        lost: is called once, when the other side is gone.
    """

    def __init__(self, end: socket.socket, take: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        end.setblocking(False)
        self._end = end
        self._take = take
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._notes: list[bytes] = []  # as many as groups are in flight, at most twice
        self._blocked = False
        self._loop.add_reader(end, self._read)

    def put(self, note: bytes) -> None:
        """Send a note, in the same packet as the others of this round."""
        if not self._notes and not self._blocked:
            self._loop.call_soon(self._flush)
        self._notes.append(note)

    def close(self) -> None:
        """Send what waits as far as it goes, and close the socket."""
        if self._end.fileno() >= 0:
            self._flush()
            self._loop.remove_reader(self._end)
            self._loop.remove_writer(self._end)
            self._end.close()

    def _flush(self) -> None:
        while self._notes and self._end.fileno() >= 0:
            size = count = 0
            while count < len(self._notes) and (not count or size + len(self._notes[count]) <= _PACKET):
                size += len(self._notes[count])
                count += 1
            try:
                self._end.send(b"".join(self._notes[:count]))
            except BlockingIOError:
                if not self._blocked:
                    self._blocked = True
                    self._loop.add_writer(self._end, self._unblock)
                return
            except ConnectionError:  # the other side is gone, as the reader sees
                self._notes.clear()
                return
            except OSError as error:  # what waits for these notes would wait for ever
                give_up(f"notes cannot be sent to another process: {error}")
            del self._notes[:count]

    def _unblock(self) -> None:
        self._loop.remove_writer(self._end)
        self._blocked = False
        self._flush()

    def _read(self) -> None:
        for _ in range(16):  # then the loop goes round
            packet = b""
            with contextlib.suppress(ConnectionError):
                try:
                    packet = self._end.recv(_PACKET)
                except BlockingIOError:
                    return
            if not packet:
                self._notes.clear()
                self.close()
                self._lost()
                return
            self._take(packet)
            if self._end.fileno() < 0:
                return
