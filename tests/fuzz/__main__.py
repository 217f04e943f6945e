"""Fuzzing of one target with atheris: ``python -m tests.fuzz TARGET [libFuzzer's options] CORPUS...``."""

import logging
import sys

import atheris

_WATCHED = [
    "manet.vision.formats",
    "manet.vision.images",
    "PIL",
    "python_multipart",
    "service.http.body",
    "service.http.multipart",
    "service.http.upload",
    "starlette.formparsers",
]

with atheris.instrument_imports(include=_WATCHED):
    from tests.fuzz.targets import TARGETS, with_sums


def _mutated(data: bytes, most: int, seed: int) -> bytes:
    return with_sums(atheris.Mutate(data, most))


def main() -> None:
    """Fuzz until libFuzzer's own limits end the process."""
    logging.disable()  # the parser has a word to say about every bad form
    name, *options = sys.argv[1:]
    mutator = {"custom_mutator": _mutated} if name == "decode" else {}
    atheris.Setup([sys.argv[0], *options], TARGETS[name], **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
