"""Annotated clip: a copy with the faces marked in every frame, encoded anew, and the clip's own sound beside it."""

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from manet.files import Draft
from manet.preprocess import Pixels
from manet.video.clip import Clip, Sound
from manet.video.names import COPIES
from manet.video.pipeline import FrameAnswer

_MUXERS = MappingProxyType(dict(zip(COPIES, ("mp4", "matroska", "mov"), strict=True)))

_BT709 = 1
"""The colour matrix of ITU-R BT.709 as H.264 numbers it (ITU-T H.264, table E-5)."""

_OPTIONS = MappingProxyType({"preset": "veryfast", "crf": "20", "bf": "0"})
"""Fast, good enough that the clip looks as before, and no frame is stored before one that is shown earlier: so all
times are the clip's own in every container."""


def can_hold(suffix: str, sound: Sequence[AudioStream]) -> bool:
    """Return whether a file of such a name can hold these streams as they are."""
    try:
        with av.open(io.BytesIO(), "w", format=_MUXERS[suffix]) as trial:
            for stream in sound:
                trial.add_stream_from_template(stream, opaque=True)
            if sound:
                trial.start_encoding()
    except av.FFmpegError:
        return False
    return True


class AnnotatedClip:
    """Writes the copy beside its place, and puts it there in ``close``; see ``manet.bulk.sinks.Sink``.

    Frames are H.264 at the clip's own times. Sound is copied packet by packet. Where not a single frame was added there
    is no copy.

    Args:
        path: of the copy, ending in one of ``manet.video.names.COPIES``.
        clip: what it is a copy of.

    Raises:
        VideoError: if such a file cannot hold the clip's sound.
        OSError: if it cannot be written.
    """

    def __init__(self, path: Path, clip: Clip) -> None:
        suffix = path.suffix.lower()
        if not can_hold(suffix, clip.sound):
            codecs = ", ".join(sorted({stream.codec_context.name for stream in clip.sound}))
            raise VideoError(f"a {suffix} file cannot hold its sound as it is ({codecs}); name one that ends in .mkv")
        self._frames = 0
        with ExitStack() as opening:
            self._draft = opening.enter_context(Draft(path))
            opening.push(self._put)
            file = opening.enter_context(self._draft.part.open("wb"))
            self._container = opening.enter_context(av.open(file, "w", format=_MUXERS[suffix]))
            self._video = _encoder(self._container, clip)
            self._sound = [_copied(self._container, stream) for stream in clip.sound]
            self._writing = opening.pop_all()

    def add(self, item: FrameAnswer | Sound) -> None:
        """Draw and encode a frame, or copy a packet of sound."""
        with _told():
            if isinstance(item, Sound):
                item.packet.stream = self._sound[item.stream]
                self._container.mux_one(item.packet)
                return
            assert item.image is not None, "frames are kept where they are drawn"
            drawn = draw_faces(item.image, [face.calm for face in item.faces], [face.track for face in item.faces])
            self._container.mux(self._video.encode(self._encodable(np.asarray(drawn), item.moment.tick)))
            self._frames += 1

    def close(self) -> None:
        """Write what the encoder still holds, and put the copy in its place."""
        with _told(), self._writing:
            if self._frames:
                self._container.mux(self._video.encode())

    def _put(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is None and self._frames:
            self._draft.put()

    def _encodable(self, pixels: Pixels, tick: int) -> av.VideoFrame:
        """Return a frame as the encoder takes it; one of another size than the first is scaled to that."""
        frame = av.VideoFrame.from_ndarray(pixels).reformat(
            width=self._video.width,
            height=self._video.height,
            format=self._video.pix_fmt,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = tick, self._video.codec_context.time_base
        return frame


def _encoder(container: OutputContainer, clip: Clip) -> VideoStream:
    stream = container.add_stream("libx264", rate=clip.rate, options=dict(_OPTIONS))
    stream.width, stream.height = (-(-side // 2) * 2 for side in (clip.width, clip.height))  # colour is shared by 2 x 2
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = clip.time_base
    stream.color_primaries, stream.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    stream.colorspace, stream.color_range = _BT709, ColorRange.MPEG
    return stream


def _copied(container: OutputContainer, sound: AudioStream) -> AudioStream:
    stream = container.add_stream_from_template(sound, opaque=True)
    if sound.language is not None:
        stream.metadata["language"] = sound.language
    stream.disposition = sound.disposition
    return stream


@contextmanager
def _told() -> Iterator[None]:
    """Tell what FFmpeg cannot write; what the system cannot, an ``OSError``, tells itself."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise VideoError(f"the annotated copy cannot be written: {error.strerror}") from error
