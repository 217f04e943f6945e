"""Requirements of the image that serves with OpenVINO: the package's own and those of its extras, without PyTorch.

    python docker/requirements.py pyproject.toml > requirements.txt

PyTorch is left out because nothing that OpenVINO serves needs it.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

EXTRAS = ("otel",)
"""Traces, which MANET_OTLP_ENDPOINT switches on."""

LEFT_OUT = "torch"


def requirements(pyproject: Path, extras: Iterable[str]) -> list[str]:
    """Return the requirements, each as in the file.

    Raises:
        ValueError: if what is left out is not among them, so that a change of its name does not bring it back.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted: list[str] = [*project["dependencies"], *(one for extra in extras for one in optional[extra])]
    kept = [one for one in wanted if _name(one) != LEFT_OUT]
    if len(kept) == len(wanted):
        raise ValueError(f"{pyproject}: expected {LEFT_OUT} among the dependencies, to leave it out")
    return kept


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path(sys.argv[1]), EXTRAS)) + "\n")
