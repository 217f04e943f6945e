"""Files that are written whole or not at all, and known by their SHA-256.

The checksum of a file that no one else vouches for lies beside it, as ``NAME.sha256`` in the format of
``sha256sum``, so that ``sha256sum --check`` can also be used on it.
"""

import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

from manet.errors import CheckpointError, ChecksumError

SHA256_DIGITS = 64

HTML_PAGE = (
    rb"(?:\xef\xbb\xbf)?(?>\s+|<!--.{0,4096}?-->|<\?xml.{0,1024}?\?>)*+<(?:!doctype html|html|head|body|script)\b"
)
"""What an HTML page begins with, for a search without regard to case, in which a full stop is any byte. Download
services and captive portals send pages in place of files."""

_HTML_PAGE = re.compile(HTML_PAGE, re.IGNORECASE | re.DOTALL)


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written so that readers see the old one or the new one, whatever happens in between.

    Args:
        path: where the file is to be; its folder is made where needed.
        write: writes the content to the path it is given.

    Raises:
        OSError: if the folder or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        part, plain = Path(folder) / path.name, Path(folder) / "plain"
        write(part)
        # Some writers make files that only their owner can read; a service often runs as another user.
        plain.touch()
        part.chmod(plain.stat().st_mode)
        _sync(part)
        os.replace(part, path)
    _sync(path.parent)


def remove_temporary_files(path: Path) -> None:
    """Remove what writers of a file left beside it that were killed before it was whole; none may be at work now.

    Raises:
        OSError: if it cannot be removed.
    """
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if draft.is_dir():
            shutil.rmtree(draft)


class AtomicFile:
    """A file that is written piece by piece beside its place, and put there when it is whole.

    A context: at its end whatever was not committed is gone.

    Args:
        path: where the file is to be; its folder is made where needed.

    Raises:
        OSError: if the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")

    @property
    def part(self) -> Path:
        """Where it is written until then."""
        return Path(self._folder.name) / self._path.name

    def commit(self) -> None:
        """Put it in its place.

        Raises:
            OSError: if that fails.
        """
        atomic_write(self._path, lambda place: os.replace(self.part, place))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as 64 hexadecimal digits.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_sha256(path: Path) -> str:
    """Write down a file's SHA-256 beside it, and return it.

    Raises:
        OSError: if the file cannot be read or its folder not be written.
    """
    digest = sha256_of(path)
    atomic_write(_record(path), lambda part: part.write_text(f"{digest}  {path.name}\n"))
    return digest


def recorded_sha256(path: Path) -> str | None:
    """Return the SHA-256 written down beside a file, or None where there is none.

    Raises:
        CheckpointError: if what lies there is no checksum.
    """
    record = _record(path)
    if not record.is_file():
        return None
    digest = record.read_text(errors="replace").partition(" ")[0].strip().lower()
    if len(digest) != SHA256_DIGITS or not set(digest) <= set("0123456789abcdef"):
        raise CheckpointError(
            f"{record}: expected a SHA-256 of {SHA256_DIGITS} hexadecimal digits, found something else"
        )
    return digest


def verify_sha256(path: Path, expected: str) -> None:
    """Return if the file's SHA-256 is the expected one.

    Raises:
        ChecksumError: if it is not.
        OSError: if the file cannot be read.
    """
    found = sha256_of(path)
    if found != expected.lower():
        raise ChecksumError(f"{path}: expected SHA-256 {expected.lower()}, found {found}")


def refuse_html_page(path: Path, expected: str) -> None:
    """Raise an error about a file that is an HTML page, as download services send one in place of a large file.

    Args:
        path: the file.
        expected: what it should be, in words.

    Raises:
        CheckpointError: if it is one.
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        if _HTML_PAGE.match(file.read(8192)):
            raise CheckpointError(
                f"{path}: expected {expected}, found an HTML page, as download services send one in place of a large "
                "file; download it with a browser"
            )


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
