"""Text files that users bring: lists, tables, recipes and reports."""

from pathlib import Path

from training.errors import TrainingError

ENCODING = "utf-8-sig"
"""UTF-8 with or without a byte order mark."""

NOT_UTF8 = "is not UTF-8 text; if it is UTF-16, save it as UTF-8"


def read_text(path: Path, error: type[TrainingError]) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        error: if the file is missing, or not UTF-8.
    """
    try:
        return path.read_text(encoding=ENCODING)
    except FileNotFoundError as missing:
        raise error(f"{path} is missing") from missing
    except UnicodeDecodeError as other:
        raise error(f"{path} {NOT_UTF8}") from other
