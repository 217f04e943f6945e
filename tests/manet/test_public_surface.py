"""What ``import manet`` offers, and what it costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import manet

ROOT = Path(__file__).parents[2]

TORCH_FREE = (
    "manet",
    "manet.vision.faces",
    "manet.recognizer",
    "manet.weights.registry",
    "manet.backends.factory",
    "manet.__main__",
)


def test_all_is_sorted() -> None:
    assert manet.__all__ == sorted(manet.__all__)
    assert set(manet.__all__) <= set(dir(manet))


@pytest.mark.parametrize("name", manet.__all__)
def test_every_name_resolves(name: str) -> None:
    assert getattr(manet, name) is not None


def test_the_version_is_the_projects() -> None:
    assert manet.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        manet.nothing  # noqa: B018


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_is_not_loaded_until_it_is_needed(module: str) -> None:
    program = f"import sys, {module}; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert answer.stdout == "False\n"
