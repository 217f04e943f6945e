"""Clips that tests draw: frames of two colours, and tones beside them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image

from testing.fakes import paint

RED, BLUE, BLACK = (255, 0, 0), (0, 0, 255), (0, 0, 0)
RATE = 48_000
MILLISECOND = Fraction(1, 1000)


def write_clip(
    path: Path,
    frames: Sequence[Image.Image],
    *,
    times: Sequence[int] | None = None,
    sounds: Sequence[str] = (),
    turned: tuple[float, bool, bool] | None = None,
    aspect: Fraction | None = None,
    muxer: dict[str, str] | None = None,
    key_frames: int = 250,
) -> Path:
    """Write frames as H.264, 25 a second or at their own times, in milliseconds, with tones in parallel streams.

    ``sounds`` names a codec for each stream; ``turned`` is a display matrix: degrees, mirrored left and right, up and
    down.
    """
    times = [40 * number for number in range(len(frames))] if times is None else times
    with av.open(path, "w", container_options=muxer or {}) as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": str(key_frames)})
        video.width, video.height = frames[0].size
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = MILLISECOND
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if turned is not None:
            video.set_display_rotation(turned[0], hflip=turned[1], vflip=turned[2])
        tones = [_tone(container, codec) for codec in sounds]
        for number, tone in enumerate(tones):
            tone.metadata["language"] = ("eng", "ita")[number]
        container.start_encoding()
        written = [0] * len(tones)
        for frame, time in zip(frames, times, strict=True):
            _show(container, video, frame, time)
            for number, tone in enumerate(tones):
                written[number] = _sound(container, tone, written[number], time + 40, 440 * (number + 1))
        container.mux(video.encode())
        for tone in tones:
            container.mux(tone.encode())
    return path


def _tone(container: OutputContainer, codec: str) -> AudioStream:
    stream = container.add_stream(codec, rate=RATE, layout="mono")
    assert isinstance(stream, AudioStream), codec
    return stream


def _show(container: OutputContainer, video: VideoStream, image: Image.Image, time: int) -> None:
    frame = av.VideoFrame.from_image(image)
    frame.pts, frame.time_base = time, MILLISECOND
    container.mux(video.encode(frame))


def _sound(container: OutputContainer, tone: AudioStream, begin: int, end: int, pitch: int) -> int:
    """Encode a tone from one sample to, at least, a time in milliseconds; return the sample after the last."""
    size = tone.codec_context.frame_size or 1024
    while begin < end * RATE // 1000:
        wave = np.sin(2 * np.pi * pitch * (begin + np.arange(size)) / RATE)
        frame = av.AudioFrame.from_ndarray((8000 * wave).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
        container.mux(tone.encode(frame))
        begin += size
    return begin


def wandering(frames: int, size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    """Return frames in which a red face stays on the left and a blue one comes in on the right halfway."""
    return [paint(RED, BLUE if 2 * number >= frames else BLACK, size) for number in range(frames)]


def packets(path: Path) -> list[tuple[str, list[bytes]]]:
    """Return a file's audio streams, each with its language and its packets as they are stored."""
    with av.open(path) as container:
        found: dict[int, tuple[str, list[bytes]]] = {
            stream.index: (stream.language or "", []) for stream in container.streams.audio
        }
        for packet in container.demux():
            if packet.size and packet.stream_index in found:
                found[packet.stream_index][1].append(bytes(packet))
    return list(found.values())


def shown(path: Path) -> list[tuple[float, np.ndarray]]:
    """Return when each frame of a file is shown, in seconds, and its pixels; all must be decodable."""
    with av.open(path) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
