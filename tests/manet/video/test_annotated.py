"""The annotated copy: the clip's frames at their times, its sound to the byte."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet

from manet.labels import Expression
from manet.recognizer import RecognizedFace
from manet.tracking import FollowedFace
from manet.video.annotated import AnnotatedClip, best_suffix
from manet.video.clip import Clip, Frame, Moment
from manet.video.pipeline import FrameAnswer
from manet.vision.faces import Box, DetectedFace, Landmarks, Point
from testing.clips import packets, shown, wandering, write_clip

MOST = 10_000
SHARES = MappingProxyType({Expression.HAPPINESS: 0.9, Expression.ANGER: 0.1})


def face(x: float) -> FollowedFace:
    found = DetectedFace(Box(x, 16, 24, 24), 0.9, Landmarks(*[Point(0, 0)] * 5))
    return FollowedFace(7, RecognizedFace(found, SHARES), SHARES)


def copy(source: Path, target: Path, *, most: int | None = None) -> Path:
    """Copy a clip, with one face marked in each frame."""
    with Clip(source, max_pixels=MOST) as clip:
        made = AnnotatedClip(target, clip)
        for number, piece in enumerate(clip.pieces()):
            if number == most:
                break
            if isinstance(piece, Frame):
                image = piece.pixels()
                made.add(FrameAnswer(image.shape[1], image.shape[0], [face(4)], 1, piece.moment, image))
            else:
                made.add(piece)
        made.close()
    return target


@pytest.mark.parametrize(
    ("source", "target", "sounds"),
    [
        ("a.mp4", "b.mp4", ("aac",)),
        ("a.mp4", "b.mkv", ("aac", "libmp3lame")),
        ("a.mkv", "b.mp4", ("libopus", "aac")),
        ("a.mkv", "b.mov", ("pcm_s16le",)),
        ("a.mp4", "b.mov", ()),
    ],
)
def test_sound_is_copied_to_the_byte_stream_by_stream(
    source: str, target: str, sounds: tuple[str, ...], tmp_path: Path
) -> None:
    path = write_clip(tmp_path / source, wandering(25), sounds=sounds)

    copied = packets(copy(path, tmp_path / target))

    assert copied == packets(path)
    assert [language for language, _ in copied] == ["eng", "ita"][: len(sounds)]


def seconds(packet: "Packet[Any]") -> float:
    """Return the time at which a packet is shown or heard."""
    assert packet.pts is not None
    return float(packet.pts * packet.time_base)


@pytest.mark.parametrize("target", ["b.mp4", "b.mkv", "b.mov"])
@pytest.mark.parametrize("source", ["a.mp4", "a.mkv", "a.ts"])
def test_frames_and_sound_keep_their_times(source: str, target: str, tmp_path: Path) -> None:
    times = [0, 40, 50, 500, 520, 1500, 1540, 1580]
    path = write_clip(tmp_path / source, wandering(8), times=times, sounds=("aac",))
    with Clip(path, max_pixels=MOST) as clip:
        pieces = list(clip.pieces())
    frames = [piece.moment.time for piece in pieces if isinstance(piece, Frame)]
    heard = [seconds(one.packet) for one in pieces if not isinstance(one, Frame)]

    copied = copy(path, tmp_path / target)

    with av.open(copied) as container:
        begins = (container.start_time or 0) / av.time_base
        stamps = [(p.stream.type, seconds(p)) for p in container.demux() if p.size]
    # Matroska has no time before its beginning: all is moved by the encoder's lead of some milliseconds.
    lead = frames[0] - next(time for kind, time in stamps if kind == "video")
    assert abs(lead) < 0.03
    assert begins < 0.03
    assert sorted(time + lead for kind, time in stamps if kind == "video") == pytest.approx(frames, abs=0.0015)
    assert [time + lead for kind, time in stamps if kind == "audio"] == pytest.approx(heard, abs=0.0015)


def test_faces_are_marked_and_the_rest_looks_as_before(tmp_path: Path) -> None:
    frames = wandering(6, size=(160, 120))
    path = write_clip(tmp_path / "a.mp4", frames)
    with Clip(path, max_pixels=20_000) as clip:
        made = AnnotatedClip(tmp_path / "b.mp4", clip)
        for piece in clip.pieces():
            assert isinstance(piece, Frame)
            made.add(FrameAnswer(160, 120, [face(100)], 1, piece.moment, piece.pixels()))
        made.close()

    for (_, seen), frame in zip(shown(tmp_path / "b.mp4"), frames, strict=True):
        changed = np.abs(seen.astype(int) - np.asarray(frame)).max(axis=2) > 60
        assert changed[28, 101:123].mean() > 0.5  # the box's lower half has no letters in it
        assert changed[:, :60].mean() < 0.02


def test_odd_sides_and_a_frame_of_another_size(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(2, size=(62, 46)))
    with Clip(path, max_pixels=MOST) as clip:
        clip.width, clip.height = 61, 45
        made = AnnotatedClip(tmp_path / "b.mp4", clip)
        for tick, (height, width) in enumerate([(45, 61), (90, 122)]):
            image = np.full((height, width, 3), 200, np.uint8)
            made.add(FrameAnswer(width, height, [], 0, Moment(tick, tick * 100, tick / 10), image))
        made.close()

    [(_, first), (_, second)] = shown(tmp_path / "b.mp4")
    assert first.shape == second.shape == (46, 62, 3)
    assert np.abs(second.astype(int) - 200).max() < 8


@pytest.mark.parametrize(("codec", "name"), [("pcm_u8", "b.mp4"), ("libopus", "b.mov")])
def test_sound_that_a_container_cannot_hold_is_encoded_again(codec: str, name: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", wandering(50), sounds=(codec, "aac"))

    copied = copy(path, tmp_path / name)

    with av.open(copied) as container:
        assert [stream.codec_context.name for stream in container.streams.audio] == ["aac", "aac"]
        heard = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    wave = np.concatenate(heard)
    assert len(wave) / 48_000 == pytest.approx(2, abs=0.1)
    middle = np.abs(np.fft.rfft(wave[24_000:72_000]))
    assert middle.argmax() == pytest.approx(440, abs=2)  # one second: a bin is a hertz
    assert packets(copied)[1] == packets(path)[1]
    assert packets(copied)[0][0] == "eng"


@pytest.mark.parametrize(
    ("sounds", "suffix"), [((), ".mp4"), (("aac", "libopus"), ".mp4"), (("aac", "pcm_u8"), ".mkv")]
)
def test_the_usual_container_is_the_first_that_holds_the_sound(
    sounds: tuple[str, ...], suffix: str, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "a.mkv", wandering(3), sounds=sounds)

    with Clip(path, max_pixels=MOST) as clip:
        assert best_suffix(clip.sound) == suffix


def test_an_old_copy_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(4), sounds=("aac",))
    (tmp_path / "b.mp4").write_text("old")
    with Clip(path, max_pixels=MOST) as clip:
        made = AnnotatedClip(tmp_path / "b.mp4", clip)
        assert (tmp_path / "b.mp4").read_text() == "old"
        made.close()

    assert (tmp_path / "b.mp4").read_text() == "old", "nothing was added"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_copy_that_ends_early_plays(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(40), sounds=("aac",))

    copied = copy(path, tmp_path / "b.mp4", most=40)

    assert 5 < len(shown(copied)) < 40
    assert len(packets(copied)[0][1]) + len(shown(copied)) == 40
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


@contextmanager
def _disk(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [500, 100_000], ids=["from the beginning", "after some frames"])
@pytest.mark.parametrize("name", ["b.mp4", "b.mkv"])
def test_a_full_disk_is_reported_once_and_leaves_no_partial_file(name: str, size: int, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(4))
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)

    def filled() -> None:
        with Clip(path, max_pixels=MOST) as clip, _disk(size), ExitStack() as closing:
            made = AnnotatedClip(tmp_path / name, clip)
            closing.callback(made.close)
            for number in range(400):
                made.add(FrameAnswer(64, 48, [], 0, Moment(number, number * 512, number / 25), np.roll(image, number)))

    with pytest.raises(OSError, match="File too large") as told:
        filled()

    assert not isinstance(told.value.__context__, av.FFmpegError)
    assert [one.name for one in tmp_path.iterdir()] == ["a.mp4"]
