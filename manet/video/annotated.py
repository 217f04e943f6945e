"""Annotated clip: a copy with the faces marked in every frame, encoded again, and the clip's own sound beside it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import MappingProxyType

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from manet.drawing import draw_faces
from manet.errors import VideoError
from manet.files import AtomicFile
from manet.video.clip import Clip, Sound
from manet.video.names import COPIES
from manet.video.pipeline import FrameAnswer
from manet.video.soundtrack import can_hold, soundtrack

_MUXERS = MappingProxyType(dict(zip(COPIES, ("mp4", "matroska", "mov"), strict=True)))

_BT709 = 1
"""The colour matrix of ITU-R BT.709 as H.264 numbers it (ITU-T H.264, table E-5)."""

_OPTIONS = MappingProxyType({"preset": "veryfast", "crf": "20", "bf": "0"})
"""Fast, good enough that the clip looks as before, and no frame is stored before one that is shown earlier: so all
times are the clip's own in every container."""


def best_suffix(sound: Sequence[AudioStream]) -> str:
    """Return the end of a copy's name: the first of ``COPIES`` that can hold these streams as they are, if one can."""
    held = (suffix for suffix, muxer in _MUXERS.items() if all(can_hold(muxer, stream) for stream in sound))
    return next(held, COPIES[0])


class AnnotatedClip:
    """Writes the copy beside its place, and puts it there in ``close``; see ``manet.batch.sinks.Sink``.

    Frames are H.264 at the clip's own times. Sound is copied packet by packet, and encoded again only where such a file
    cannot hold it. Where not a single frame was added there is no copy.

    Args:
        path: of the copy, ending in one of ``manet.video.names.COPIES``.
        clip: what it is a copy of.

    Raises:
        OSError: if it cannot be written; so do ``add`` and ``close``.
        VideoError: if FFmpeg does not write it, for another reason; likewise.
    """

    def __init__(self, path: Path, clip: Clip) -> None:
        self._frames, self._failed = 0, False
        with self._told(), ExitStack() as opening:
            self._file = opening.enter_context(AtomicFile(path))
            opening.push(self._put)
            file = opening.enter_context(self._file.part.open("wb"))
            self._container = av.open(file, "w", format=_MUXERS[path.suffix.lower()])
            opening.callback(self._end)
            self._video = _encoder(self._container, clip)
            self._sound = [soundtrack(stream, self._container) for stream in clip.sound]
            # Now, because FFmpeg does not survive a packet after a beginning that could not be written.
            self._container.start_encoding()
            self._writing = opening.pop_all()

    def add(self, item: FrameAnswer | Sound) -> None:
        """Draw and encode a frame, or take a packet of sound."""
        with self._told():
            if isinstance(item, Sound):
                self._sound[item.stream].add(item.packet)
            else:
                self._container.mux(self._video.encode(self._drawn(item)))
                self._frames += 1

    def close(self) -> None:
        """Write what the encoder still holds, and put the copy in its place, unless it could not be written."""
        with self._told(), self._writing:
            if self._frames and not self._failed:
                self._container.mux(self._video.encode())
                for track in self._sound:
                    track.end()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Keep in mind that something could not be written, and tell it."""
        try:
            yield
        except OSError:  # of the system, which tells itself; some are FFmpeg's errors, too
            self._failed = True
            raise
        except av.FFmpegError as error:
            self._failed = True
            raise VideoError(f"the copy cannot be written: {error.strerror}") from error

    def _end(self) -> None:
        # Where something could not be written, and was reported, the end cannot either.
        with suppress(av.FFmpegError) if self._failed else nullcontext():
            self._container.close()

    def _put(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is None and self._frames and not self._failed:
            self._file.commit()

    def _drawn(self, answer: FrameAnswer) -> av.VideoFrame:
        """Return a frame as the encoder takes it; one of another size than the first is scaled to that."""
        assert answer.image is not None, "frames are kept where they are drawn"
        drawn = draw_faces(
            answer.image, [face.smoothed_face for face in answer.faces], [face.track for face in answer.faces]
        )
        frame = av.VideoFrame.from_ndarray(np.asarray(drawn)).reformat(
            width=self._video.width,
            height=self._video.height,
            format=self._video.pix_fmt,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = answer.moment.tick, self._video.codec_context.time_base
        return frame


def _encoder(container: OutputContainer, clip: Clip) -> VideoStream:
    stream = container.add_stream("libx264", rate=clip.rate, options=dict(_OPTIONS))
    stream.width, stream.height = (-(-side // 2) * 2 for side in (clip.width, clip.height))  # colour is shared by 2 x 2
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = clip.time_base
    stream.color_primaries, stream.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    stream.colorspace, stream.color_range = _BT709, ColorRange.MPEG
    return stream
