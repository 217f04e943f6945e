"""Names: which files are taken for clips, and how what is made of one is called."""

import os
from pathlib import Path

SUFFIXES = frozenset({".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mts", ".ts", ".webm"})
"""Names that are taken for clips, in any case of letters; what the file holds decides how it is read."""

COPIES = (".mp4", ".mkv", ".mov")
"""What an annotated copy is written as, by the end of its name."""


def is_clip(path: Path) -> bool:
    """Return whether a path is called like a clip."""
    return path.suffix.lower() in SUFFIXES and not os.path.isdir(path)


def beside(clip: Path, suffix: str) -> Path:
    """Return where something made of a clip lies if no one says otherwise: ``CLIP-faces.SUFFIX``, next to it."""
    return clip.with_name(f"{clip.stem}-faces{suffix}")
