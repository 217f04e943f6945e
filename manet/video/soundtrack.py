"""Soundtrack: an audio stream of a clip on its way into a copy: packet by packet as it is, or as AAC where it must."""

import io
from typing import Protocol

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

_RATE = 48_000
"""Samples a second of sound that is encoded again; every player knows it."""


class Soundtrack(Protocol):
    """Takes a stream's packets in their order."""

    def add(self, packet: "Packet[AudioStream]") -> None:
        """Write one."""

    def end(self) -> None:
        """Write what is left."""


def soundtrack(sound: AudioStream, container: OutputContainer) -> Soundtrack:
    """Return what brings a stream into a container whose beginning is not written yet."""
    return _Copied(sound, container) if can_hold(container.format.name, sound) else _Encoded(sound, container)


def can_hold(muxer: str, sound: AudioStream) -> bool:
    """Return whether a container can hold a stream as it is; only writing a beginning tells.

    Args:
        muxer: FFmpeg's name of the container's format.
        sound: the stream.
    """
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(sound, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


class _Copied:
    """The stream as it is."""

    def __init__(self, sound: AudioStream, container: OutputContainer) -> None:
        self._container = container
        self._stream = container.add_stream_from_template(sound, opaque=True)
        _label(self._stream, sound)

    def add(self, packet: "Packet[AudioStream]") -> None:
        packet.stream = self._stream
        self._container.mux_one(packet)

    def end(self) -> None:
        pass


class _Encoded:
    """The stream as AAC."""

    def __init__(self, sound: AudioStream, container: OutputContainer) -> None:
        self._container = container
        self._sound = sound
        layout = "mono" if sound.codec_context.channels == 1 else "stereo"
        self._stream = container.add_stream("aac", rate=_RATE, layout=layout)
        _label(self._stream, sound)

    def add(self, packet: "Packet[AudioStream] | None") -> None:
        try:
            frames = self._sound.decode(packet)
        except av.FFmpegError:
            return  # a player is silent there, too
        for frame in frames:
            self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        self.add(None)
        self._container.mux(self._stream.encode())


def _label(stream: AudioStream, sound: AudioStream) -> None:
    if sound.language is not None:
        stream.metadata["language"] = sound.language
    stream.disposition = sound.disposition
