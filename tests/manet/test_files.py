"""Files written whole, and their checksums."""

import hashlib
import stat
from pathlib import Path

import pytest

from manet.errors import CheckpointError, ChecksumError
from manet.files import atomic_write, record_sha256, recorded_sha256, sha256_of, verify_sha256


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    path, plain = tmp_path / "new folder" / "weights.bin", tmp_path / "plain"
    plain.touch()

    def write_privately(part: Path) -> None:
        part.touch(mode=0o600)

    atomic_write(path, write_privately)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert list(path.parent.iterdir()) == [path]


def test_a_recorded_checksum_is_what_sha256sum_writes(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"numbers")
    digest = hashlib.sha256(b"numbers").hexdigest()
    assert recorded_sha256(path) is None
    assert record_sha256(path) == digest == sha256_of(path) == recorded_sha256(path)
    assert (tmp_path / "weights.bin.sha256").read_text() == f"{digest}  weights.bin\n"


def test_another_checksum_is_an_error_that_names_both(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"numbers")
    verify_sha256(path, sha256_of(path).upper())
    with pytest.raises(ChecksumError, match=f"expected SHA-256 {'0' * 64}, found {sha256_of(path)}"):
        verify_sha256(path, "0" * 64)


@pytest.mark.parametrize("text", ["", "no checksum", "g" * 64, "0" * 63])
def test_a_broken_record_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "weights.bin.sha256").write_text(text)
    with pytest.raises(CheckpointError, match=r"weights\.bin\.sha256"):
        recorded_sha256(tmp_path / "weights.bin")
