"""Which files a walk finds, and in which order."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from manet.batch.walk import walk


def nothing(_path: Path) -> bool:
    return False


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "z/c.webp", "m/n/d.bmp", ".git/e.png", "m/._x.jpg"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "tree"


def _names(root: Path, leave_out: Callable[[Path], bool] = nothing) -> list[str]:
    return [found.path.relative_to(root).as_posix() for found in walk([root], leave_out=leave_out)]


def test_images_by_name_the_hidden_and_the_others_passed_over(tree: Path) -> None:
    assert _names(tree) == ["a.png", "b.JPG", "m/n/d.bmp", "z/c.webp"]
    assert _names(tree, lambda path: path == tree / "m") == ["a.png", "b.JPG", "z/c.webp"]


def test_what_is_passed_over_is_counted_by_kind(tree: Path) -> None:
    for name in ("IMG_1.MOV", "IMG_1.AAE", "IMG_2.mov", "IMG_2.HEIC", "z/README", "z/IMG_3.AVIF"):
        (tree / name).touch()
    os.mkfifo(tree / "pipe.png")
    counts = Counter[str]()

    found = {one.path.name for one in walk([tree], leave_out=nothing, passed_over=counts)}

    assert {"IMG_2.HEIC", "IMG_3.AVIF"} < found
    assert counts == {
        ".mov": 2,
        ".aae": 1,
        ".txt": 1,
        "without a suffix": 1,
        "no regular file": 1,
        "hidden": 3,  # a file, a folder and what macOS leaves beside a file
    }


def test_a_file_that_is_named_is_taken_whatever_its_name(tree: Path, tmp_path: Path) -> None:
    named = [tree / "notes.txt", tree / ".hidden.png", tmp_path / "absent"]

    assert [(found.path, found.root) for found in walk(named, leave_out=nothing)] == [(path, None) for path in named]


def test_links_are_followed_and_their_loops_end(tree: Path) -> None:
    (tree / "m/up").symlink_to(tree, target_is_directory=True)
    (tree / "z/again").symlink_to(tree / "m", target_is_directory=True)
    (tree / "link.png").symlink_to(tree / "a.png")
    (tree / "self.png").symlink_to(tree / "self.png")

    assert _names(tree) == ["a.png", "b.JPG", "link.png", "self.png", "m/n/d.bmp", "z/c.webp"]


def test_what_is_no_file_is_passed_over_and_a_link_to_nowhere_is_not(tree: Path) -> None:
    os.mkfifo(tree / "pipe.png")
    (tree / "gone.png").symlink_to(tree / "nowhere.png")

    assert _names(tree) == ["a.png", "b.JPG", "gone.png", "m/n/d.bmp", "z/c.webp"]


def test_a_folder_that_cannot_be_read_is_reported_and_the_rest_is_walked(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir

    def refusing(path: Path) -> list[str]:  # root may read everything, so the file's mode would not do
        if path == tree / "m":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", refusing)
    found = list(walk([tree], leave_out=nothing))

    assert [one.path.name for one in found] == ["a.png", "b.JPG", "m", "c.webp"]
    assert [one.error and one.error.strerror for one in found] == [None, None, "Permission denied", None]
