"""Clips as cameras, phones and broken disks leave them."""

import errno
import gc
import io
import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from manet.errors import VideoError
from manet.video.clip import Clip, Frame, Sound
from manet.vision.preprocess import Pixels
from testing.clips import BLACK, RED, wandering, write_clip
from testing.fakes import paint

MOST = 10_000


def read(path: Path) -> tuple[list[float], list[Pixels], list[Sound], str | None]:
    """Return when a clip's frames are shown, the frames, its sound, and what was amiss."""
    with Clip(path, max_pixels=MOST) as clip:
        pieces = list(clip.pieces())
        frames = [piece for piece in pieces if isinstance(piece, Frame)]
        assert [frame.moment.number for frame in frames] == list(range(len(frames)))
        times = [frame.moment.time for frame in frames]
        pixels = [frame.pixels() for frame in frames]
        assert (clip.height, clip.width) == pixels[0].shape[:2]
        return times, pixels, [piece for piece in pieces if isinstance(piece, Sound)], clip.trouble


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.ts", "a.mp4.3gp"])
def test_times_are_the_containers_not_a_count_of_frames(name: str, tmp_path: Path) -> None:
    times = [0, 40, 50, 500, 520, 1500]

    found, _, _, trouble = read(write_clip(tmp_path / name, wandering(6), times=times))

    assert found == pytest.approx([time / 1000 for time in times], abs=0.001)
    assert trouble is None


def test_avi_has_a_pace_and_no_times(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number, image in enumerate(wandering(6)):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode())

    assert read(path)[0] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(
    ("turned", "way"),
    [
        ((90, False, False), Image.Transpose.ROTATE_90),
        ((180, False, False), Image.Transpose.ROTATE_180),
        ((-90, False, False), Image.Transpose.ROTATE_270),
        ((0, True, False), Image.Transpose.FLIP_LEFT_RIGHT),
        ((0, False, True), Image.Transpose.FLIP_TOP_BOTTOM),
    ],
)
def test_a_phones_frames_come_upright(turned: tuple[float, bool, bool], way: Image.Transpose, tmp_path: Path) -> None:
    stored = paint(BLACK)
    stored.paste(RED, (0, 0, 32, 16))
    stored.paste((255, 255, 255), (0, 32, 16, 48))

    _, [seen, *_], _, _ = read(write_clip(tmp_path / "a.mp4", [stored] * 2, turned=turned))

    meant = np.asarray(stored.transpose(way))
    assert seen.shape == meant.shape
    assert np.abs(seen.astype(int) - meant).mean() < 8
    assert seen.flags.c_contiguous


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    _, [seen, *_], _, _ = read(write_clip(tmp_path / "a.mp4", wandering(2), aspect=Fraction(3, 2)))

    assert seen.shape == (48, 96, 3)


def test_sound_comes_between_the_frames_from_every_stream(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", wandering(25), sounds=("aac", "libopus"))

    with Clip(path, max_pixels=MOST) as clip:
        kinds = ["v" if isinstance(piece, Frame) else piece.stream for piece in clip.pieces()]

    assert set(kinds) == {"v", 0, 1}
    middle = kinds[len(kinds) // 4 : 3 * len(kinds) // 4]
    assert set(middle) == {"v", 0, 1}


def test_without_sound(tmp_path: Path) -> None:
    assert read(write_clip(tmp_path / "a.mp4", wandering(3)))[2] == []


def test_frames_are_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(100), turned=(90, False, False))
    with Clip(path, max_pixels=MOST) as clip:
        gc.collect()
        gc.disable()
        try:
            for piece in clip.pieces():
                assert isinstance(piece, Frame)
                piece.pixels()
            held = sum(issubclass(type(one), av.VideoFrame) for one in gc.get_objects())
        finally:
            gc.enable()

    assert held < 10


def test_a_clip_that_begins_late_begins_at_nought(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.ts", wandering(9), times=[90_000 + 40 * n for n in range(9)])

    assert read(path)[0] == pytest.approx([n / 25 for n in range(9)], abs=0.001)


@pytest.mark.parametrize(
    "content",
    [b"no video", b"#EXTM3U\n#EXTINF:1,\nwhole.mp4\n", b"ffconcat version 1.0\nfile whole.mp4\n", b""],
    ids=["text", "playlist", "list of files", "empty"],
)
def test_what_is_no_video_is_reported_and_opens_no_other_file(content: bytes, tmp_path: Path) -> None:
    write_clip(tmp_path / "whole.mp4", wandering(2))
    (tmp_path / "a.mp4").write_bytes(content)

    with pytest.raises(VideoError, match=r"not a video|is empty"):
        Clip(tmp_path / "a.mp4", max_pixels=MOST)


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        tone = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        container.mux(tone.encode(frame))
        container.mux(tone.encode())

    with pytest.raises(VideoError, match="no videos"):
        Clip(path, max_pixels=MOST)


def test_a_records_sleeve_is_no_moving_image(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        tone = container.add_stream("aac", rate=48_000, layout="mono")
        sleeve = container.add_stream("mjpeg", rate=1)
        sleeve.width, sleeve.height, sleeve.pix_fmt = 64, 48, "yuvj420p"
        sleeve.disposition = Disposition.attached_pic
        container.start_encoding()
        image = av.VideoFrame.from_image(paint(RED)).reformat(format="yuvj420p")
        image.pts, image.time_base = 0, Fraction(1)
        container.mux(sleeve.encode(image))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        container.mux(tone.encode(frame))
        for stream in (sleeve, tone):
            container.mux(stream.encode())

    with pytest.raises(VideoError, match="no videos"):
        Clip(path, max_pixels=MOST)


def test_frames_that_are_too_large_are_refused_before_one_is_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(2))

    with pytest.raises(VideoError, match="64 x 48 pixels; at most 3000"):
        Clip(path, max_pixels=3000)


def test_a_file_whose_index_was_never_written_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(20))
    path.write_bytes(path.read_bytes()[:-1500])

    with pytest.raises(VideoError, match="beginning is broken"):
        Clip(path, max_pixels=MOST)


def _packets(path: Path) -> list[tuple[int, int]]:
    """Return the offset and the size of each packet of a clip's video, in bytes."""
    with av.open(path) as container:
        return [(one.pos, one.size) for one in container.demux(video=0) if one.size and one.pos is not None]


@pytest.mark.parametrize(
    ("name", "muxer", "told"),
    [
        ("a.mp4", {"movflags": "faststart"}, "damaged|beyond|ends after"),
        ("a.mkv", {}, r"ends after \d\.\d of the 4\.0 s"),
    ],
)
def test_a_truncated_clip_gives_what_is_there_and_says_so(
    name: str, muxer: dict[str, str], told: str, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / name, wandering(100), muxer=muxer)
    whole, *_ = read(path)
    middle, _ = _packets(path)[50]
    path.write_bytes(path.read_bytes()[: middle + 10])

    times, _, _, trouble = read(path)

    assert times == whole[:50]
    assert trouble is not None
    assert re.search(told, trouble)


def test_a_damaged_piece_spoils_no_more_than_it_must(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(30))
    at, size = _packets(path)[20]
    content = bytearray(path.read_bytes())
    content[at : at + size] = b"\xff" * size
    path.write_bytes(content)

    times, _, _, trouble = read(path)

    assert trouble == "1 pieces of it are damaged and were left out"
    assert times == pytest.approx([number / 25 for number in range(30) if number != 20], abs=0.001)


def test_a_disk_that_fails_is_the_end_of_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mkv", wandering(100), sounds=("pcm_s16le",))
    opened = Path.open

    class Failing:
        def __init__(self, file: io.BufferedReader) -> None:
            self._file = file
            self.fileno, self.seek, self.tell, self.close = file.fileno, file.seek, file.tell, file.close

        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def read(self, size: int) -> bytes:
            if self.tell() > 150_000:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return self._file.read(size)

    monkeypatch.setattr(Path, "open", lambda self, _mode: Failing(opened(self, "rb")))

    times, _, _, trouble = read(path)

    assert 10 < len(times) < 90
    assert trouble is not None
    assert re.fullmatch(r"it cannot be read beyond \d\.\d s: Input/output error", trouble)


def test_a_clip_may_begin_with_what_cannot_be_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(30), key_frames=10)
    at, size = _packets(path)[0]
    content = bytearray(path.read_bytes())
    content[at : at + size] = b"\xff" * size
    path.write_bytes(content)

    times, _, _, trouble = read(path)

    assert times[-20:] == pytest.approx([number / 25 for number in range(10, 30)], abs=0.001)
    assert trouble is not None


def test_a_clip_without_one_whole_frame_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(5), muxer={"movflags": "faststart"})
    first, _ = _packets(path)[0]
    path.write_bytes(path.read_bytes()[: first + 5])

    with pytest.raises(VideoError, match="no frame in it that can be decoded"):
        Clip(path, max_pixels=MOST)


def test_any_name_is_only_a_name(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", wandering(2))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/http:%03d\xff.mp4"))
    path.rename(odd)

    assert len(read(odd)[0]) == 2
