"""Keys: who may send images; kept as hashes, distinguished by number."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path

OWNER = "key "
"""What the names of keys' owners begin with."""

_KEY = re.compile(r"[!-~]{16,}")


class KeyStore:
    """The keys that are known.

    Args:
        keys: each at least 16 visible ASCII characters.

    Raises:
        ValueError: if one is not; it is not named.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        known = list(dict.fromkeys(keys))
        if not all(map(_KEY.fullmatch, known)):
            raise ValueError("an API key has at least 16 characters, visible ASCII and no spaces; one has not")
        self._digests = [_digest(key) for key in known]

    def __len__(self) -> int:
        return len(self._digests)

    def owner(self, presented: str) -> str | None:
        """Return a name for a key, such as ``key 1``, or None if it is not known.

        Hashes are compared, all of them and each in constant time, so that the time tells nothing of any key.
        """
        digest = _digest(presented)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return f"{OWNER}{matches.index(True) + 1}" if any(matches) else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("latin-1", "replace")).digest()


def read_keys(listed: Iterable[str], file: Path | None) -> KeyStore:
    """Return the keys that are listed and those in a file: one a line; empty lines and those with ``#`` do not count.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds no key, or one of the keys is none.
    """
    lines = [] if file is None else [line.strip() for line in file.read_text().splitlines()]
    filed = [line for line in lines if line and not line.startswith("#")]
    if file is not None and not filed:
        raise ValueError("the file of API keys holds none")
    return KeyStore([*listed, *filed])
