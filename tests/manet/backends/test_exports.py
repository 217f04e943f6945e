"""``manet export``: a cache that a machine without PyTorch serves from, and may not write to."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from manet.backends.openvino import exports
from manet.backends.openvino.exports import CACHE_VARIABLE, default_cache, exported
from manet.backends.openvino.runtime import core
from manet.weights.registry import get

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from manet.__main__ import main; sys.argv = {}; main()"


def _manet(*arguments: str | Path, torch: bool = True, **settings: str) -> "subprocess.CompletedProcess[str]":
    words = ["manet", *map(str, arguments)]
    program = "from manet.__main__ import main; import sys; sys.argv = {}; main()" if torch else WITHOUT_TORCH
    return subprocess.run(
        [sys.executable, "-c", program.format(words)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``manet export`` filled with the default weights."""
    cache = tmp_path_factory.mktemp("exported")
    done = _manet("export", "--cache", cache)
    assert (done.returncode, done.stderr) == (0, "")
    told = [line.split("  ") for line in done.stdout.splitlines()]
    assert [line[:2] for line in told] == [["ferplus", "float32, bf16"], ["ferplus", "int8"]]
    assert {line[2] for line in told} == {str(folder) for folder in cache.glob("[!.]*")}
    return cache


def test_what_is_there_is_left_as_it_is(cache: Path) -> None:
    before = {graph: graph.stat().st_mtime_ns for graph in cache.glob("*/network.xml")}

    found = {exported(get("ferplus"), None, cache, int8=int8) for int8 in (False, True)}
    assert found == set(before)
    assert {graph: graph.stat().st_mtime_ns for graph in found} == before


def test_the_one_in_int8_takes_a_third_of_the_room(cache: Path) -> None:
    whole, rounded = (
        exported(get("ferplus"), None, cache, int8=int8).with_name("network.bin").stat().st_size
        for int8 in (False, True)
    )

    assert rounded < whole / 3


def test_of_several_that_find_none_one_makes_it(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = core().read_model(exported(get("ferplus"), None, cache, int8=False))
    made: list[tuple[object, ...]] = []

    def export(*given: object) -> object:
        made.append(given)
        return graph

    monkeypatch.setattr(exports, "_export", export)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: exported(get("ferplus"), None, tmp_path, int8=False), range(3)))

    assert len(made) == 1
    assert set(found) == set(tmp_path.glob("*/network.xml"))


def test_who_has_it_needs_no_pytorch(cache: Path) -> None:
    done = _manet("export", torch=False, **{CACHE_VARIABLE: str(cache)})

    assert (done.returncode, done.stderr) == (0, "")


def test_who_has_neither_is_told_what_to_do(tmp_path: Path) -> None:
    done = _manet("export", "--cache", tmp_path / "cache", torch=False)

    assert done.returncode == 2
    assert "PyTorch, which would export them, is not installed" in done.stderr
    assert "manet export --cache FOLDER" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_the_folder_is_the_variables_or_the_platforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    assert default_cache().name == "manet"


def test_an_engine_that_is_not_installed_is_one_line(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["torch"] = None
from manet.backends.factory import load_backend
from manet.weights.registry import get
try:
    load_backend(get("ferplus"), backend="torch")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert (
        done.stdout == "torch: requested; float32: exact everywhere; but PyTorch is not installed: pip install torch\n"
    )
