"""Clip: a video file, read once from its beginning to its end: upright frames, when each is shown, and its sound."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from manet.errors import VideoError
from manet.video.timeline import Timeline
from manet.vision.preprocess import Pixels

_FORMATS = "mov,matroska,avi,flv,mpeg,mpegts"
"""Containers that are opened. Others, such as playlists, would have FFmpeg open the files and addresses they name."""

_USUAL_RATE = Fraction(25)
"""Frames a second of a clip that does not tell."""

_EARLY = 1.0
"""Seconds before its stated end from which on a clip that ends is taken for truncated."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame's place in its clip.

    Attributes:
        number: of the frame, from 0.
        tick: when it is shown, in the clip's ``time_base`` since its beginning; later than the frame before it.
        time: the same in seconds.
    """

    number: int
    tick: int
    time: float


@dataclass(frozen=True, slots=True)
class Shape:
    """How the frames of a clip are meant to be seen.

    Attributes:
        aspect: width of a pixel over its height.
        matrix: a, b, c and d of the display matrix (ISO/IEC 14496-12, section 6.2.2), which sends (x, y) to
            (a x + c y, b x + d y).
    """

    aspect: Fraction
    matrix: tuple[int, int, int, int]

    def upright(self, pixels: Pixels) -> Pixels:
        """Return a frame turned and mirrored as the matrix says, in steps of 90 degrees."""
        a, b, c, d = self.matrix
        if abs(a) + abs(d) < abs(b) + abs(c):
            pixels, a, d = pixels.swapaxes(0, 1), c, b
        return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


@dataclass(frozen=True, slots=True)
class Frame:
    """An image of a clip, not yet converted.

    Attributes:
        moment: when it is shown.
        decoded: what the decoder made of it.
        shape: how that is meant to be seen.
    """

    moment: Moment
    decoded: av.VideoFrame
    shape: "Shape"

    def pixels(self) -> Pixels:
        """Return it as it is meant to be seen: RGB, uint8 (height, width, 3), upright, with square pixels."""
        width = max(1, round(self.decoded.width * self.shape.aspect))
        return self.shape.upright(np.asarray(self.decoded.to_ndarray(format="rgb24", width=width), np.uint8))


@dataclass(frozen=True, slots=True)
class Sound:
    """A packet of one of the clip's audio streams, still encoded, timed since the clip's beginning.

    Attributes:
        stream: its place in ``Clip.sound``.
        packet: in that stream's time base.
    """

    stream: int
    packet: "Packet[AudioStream]"


@dataclass(slots=True)
class _Course:
    """How far the reading came, and what was amiss."""

    frames: int = 0
    damaged: int = 0
    seconds: float = 0.0
    broken: str | None = None


class Clip:
    """An open video file; a context.

    Of several video streams the one that players show is taken. FFmpeg is handed bytes, never a name, so that no name
    can be taken for an address.

    Args:
        path: the file. Its first bytes decide the format.
        max_pixels: the most pixels of a frame.

    Attributes:
        sound: its audio streams.
        time_base: seconds of one tick of a frame.
        rate: frames a second, on average where it varies.
        width: of the first frame, upright with square pixels; ``height`` likewise.
        height: see ``width``.
        duration: seconds, as the file states them; None where it does not.

    Raises:
        VideoError: if it is no video, none of its frames can be decoded, or they are too large.
        OSError: if it cannot be read.
    """

    def __init__(self, path: Path, *, max_pixels: int) -> None:
        first = _first_frame(path, max_pixels)
        self.height, self.width = first.pixels().shape[:2]
        self._shape = first.shape
        self._closing = ExitStack()
        self._container, self._video = self._closing.enter_context(_opened(path, max_pixels))
        self._video.thread_type = "AUTO"
        self.sound: tuple[AudioStream, ...] = self._container.streams.audio
        self.time_base = self._video.time_base or 1 / _USUAL_RATE
        self.rate = self._video.average_rate or self._video.guessed_rate or _USUAL_RATE
        self.duration = None if self._container.duration is None else self._container.duration / av.time_base
        self._begins = Fraction(self._container.start_time or 0, av.time_base)
        self._course = _Course()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def trouble(self) -> str | None:
        """What was amiss with what was read, in a few words; None if nothing was. To be asked at the end."""
        course = self._course
        if course.broken is not None:
            return f"it cannot be read beyond {course.seconds:.1f} s: {course.broken}"
        if self.duration is not None and course.seconds < self.duration - _EARLY:
            return f"it ends after {course.seconds:.1f} of the {self.duration:.1f} s that it should have"
        return f"{course.damaged:,} pieces of it are damaged and were left out" if course.damaged else None

    def pieces(self) -> Iterator[Frame | Sound]:
        """Yield frames as they are shown and sound between them as it lies in the file, once.

        What is damaged is left out; a file that cannot be read on has come to its end.
        """
        video = self._timeline(self._video, 1 / (self.rate * self.time_base))
        sounds = {
            stream.index: (number, self._timeline(stream, Fraction(stream.codec_context.frame_size or 1)))
            for number, stream in enumerate(self.sound)
        }
        for packet in self._packets():
            if packet.stream_index == self._video.index:
                yield from self._frames(packet, video)
            elif packet.stream_index in sounds:
                yield _timed(packet, *sounds[packet.stream_index])
        yield from self._frames(None, video)

    def _timeline(self, stream: VideoStream | AudioStream, step: Fraction) -> Timeline:
        second = 1 / (stream.time_base or self.time_base)
        return Timeline(start=round(self._begins * second), step=max(1, round(step)), second=round(second))

    def _packets(self) -> "Iterator[Packet[Any]]":
        course = self._course
        try:
            for packet in self._container.demux():  # subtitles, too: the clip may end with them
                if not packet.size:  # how the end of each stream is marked
                    continue
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None:
                    end = (stamp + (packet.duration or 0)) * packet.time_base - self._begins
                    course.seconds = max(course.seconds, float(end))
                if packet.is_corrupt:
                    course.damaged += 1
                yield packet
        except (av.FFmpegError, OSError) as error:
            course.broken = error.strerror or str(error)

    def _frames(self, packet: "Packet[VideoStream] | None", timeline: Timeline) -> Iterator[Frame]:
        """Yield what a packet completes, or, at the end, what is left."""
        decoded = _decoded(self._video, packet)
        if decoded is None:
            # A packet that is known to be corrupt was counted when it was read.
            self._course.damaged += packet is None or not packet.is_corrupt
            return
        # AVI has an even pace and no time stamps; what frames carry there counts packets, which come in another order.
        paced = self._container.format.name == "avi"
        for image in decoded:
            tick = timeline.place(None if paced else image.pts)
            yield Frame(Moment(self._course.frames, tick, float(tick * self.time_base)), image, self._shape)
            self._course.frames += 1


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Yield a file's container and its video stream, whose frames are of no more than so many pixels."""
    with ExitStack() as open_:
        file = open_.enter_context(path.open("rb"))
        if not os.fstat(file.fileno()).st_size:
            raise VideoError("the file is empty: it has 0 bytes")
        try:
            options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
            container = open_.enter_context(av.open(file, "r", container_options=options))
            stream = container.streams.best("video")
        except av.FFmpegError:
            raise VideoError("not a video in one of the formats that are read, or its beginning is broken") from None
        # The image on a record's sleeve is a video stream of its own.
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise VideoError("there are no videos in it")
        if stream.width * stream.height > max_pixels:
            raise VideoError(f"its frames have {stream.width} x {stream.height} pixels; at most {max_pixels} are read")
        yield container, stream


def _first_frame(path: Path, max_pixels: int) -> Frame:
    with _opened(path, max_pixels) as (container, stream), suppress(av.FFmpegError):  # reported by the next line
        for packet in container.demux(stream):
            for image in _decoded(stream, packet) or ():
                return Frame(Moment(0, 0, 0.0), image, _shape(stream, image))
    raise VideoError("there is no frame in it that can be decoded")


def _shape(stream: VideoStream, image: av.VideoFrame) -> Shape:
    # Asked of one frame only: PyAV ties a frame whose side data was looked at into a ring, and thousands of them would
    # wait in memory for the garbage collector.
    matrix = cast(Mapping[str, Any], image.side_data).get("DISPLAYMATRIX")
    a, b, _, c, d = (1, 0, 0, 0, 1) if matrix is None else np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return Shape(stream.sample_aspect_ratio or Fraction(1), (a, b, c, d))


def _decoded(stream: VideoStream, packet: "Packet[VideoStream] | None") -> list[av.VideoFrame] | None:
    """Return the frames that a packet completes, or, for None, those that are left; None where it is damaged."""
    try:
        return stream.decode(packet)
    except av.FFmpegError:
        return None


def _timed(packet: "Packet[AudioStream]", number: int, timeline: Timeline) -> Sound:
    """Return a packet of sound with its times moved to where the clip begins."""
    lead = 0 if packet.pts is None or packet.dts is None else packet.pts - packet.dts
    packet.dts = timeline.place(packet.dts)
    packet.pts = packet.dts + lead
    return Sound(number, packet)
