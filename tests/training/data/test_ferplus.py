"""FER+ from its real layout: which images count, and what they are labelled."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from manet.labels import Expression
from training.data.datasets import ferplus, load
from training.data.datasets.expression_set import DatasetError

Draw = Callable[[Path, list[tuple[str, str, list[int]]]], Path]

#        neu hap sur sad ang dis fea con unk NF
CLEAR = [0, 7, 0, 0, 3, 0, 0, 0, 0, 0]
SINGLE_VOTES = [5, 1, 1, 1, 1, 1, 0, 0, 0, 0]
NO_MAJORITY = [4, 0, 0, 4, 2, 0, 0, 0, 0, 0]
EXACT_HALF = [5, 5, 0, 0, 0, 0, 0, 0, 0, 0]
UNKNOWN = [2, 0, 0, 0, 0, 0, 0, 0, 8, 0]
NO_FACE = [0, 0, 0, 0, 0, 0, 0, 0, 0, 10]
UNKNOWN_COUNTS_AGAINST = [4, 0, 0, 0, 0, 0, 0, 0, 4, 0]


def test_majority_protocol_counts_and_labels(tmp_path: Path, draw: Draw) -> None:
    votes = [CLEAR, SINGLE_VOTES, NO_MAJORITY, EXACT_HALF, UNKNOWN, NO_FACE, UNKNOWN_COUNTS_AGAINST]
    rows = [("Training", f"fer{i}.png", v) for i, v in enumerate(votes)]
    data = draw(tmp_path, [*rows, ("Training", "", NO_FACE), ("PublicTest", "fer9.png", CLEAR)])

    found = ferplus.load(data, "train", "majority")

    assert [path.name for path in found.paths] == ["fer0.png", "fer1.png"]
    assert [found.classes[label] for label in found.labels] == [Expression.HAPPINESS, Expression.NEUTRAL]
    assert found.targets.sum(axis=1) == pytest.approx(1)
    assert set(np.unique(found.targets)) == {0, 1}


def test_distribution_labels_are_shares_of_the_votes_that_remain(tmp_path: Path, draw: Draw) -> None:
    data = draw(tmp_path, [("Training", "a.png", CLEAR), ("Training", "b.png", SINGLE_VOTES)])

    found = ferplus.load(data, "train", "distribution")

    assert found.targets[0] == pytest.approx([0, 0.7, 0, 0, 0.3, 0, 0, 0])
    assert found.targets[1] == pytest.approx([1, 0, 0, 0, 0, 0, 0, 0])


def test_duplicates_are_left_out_and_the_protocol_says_so(tmp_path: Path, draw: Draw) -> None:
    data = draw(tmp_path, [("Training", "a.png", CLEAR), ("Training", "b.png", CLEAR)])
    listed = tmp_path / "duplicates.csv"
    listed.write_text("image,usage,reason\na.png,Training,same pixels\n")

    found = load("ferplus", data, "train", duplicates=listed)

    assert [path.name for path in found.paths] == ["b.png"]
    assert "duplicates left out" in found.protocol


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda base: (base / "fer2013new.csv").unlink(), "contains no FER"),
        (lambda base: (base / "fer2013new.csv").write_text("a,b\n1,2\n"), "lacks the columns"),
        (lambda base: (base / "FER2013Train" / "a.png").unlink(), "lacks 1 of 1 images: a.png"),
    ],
)
def test_an_incomplete_tree_is_named(tmp_path: Path, draw: Draw, spoil: Callable[[Path], object], says: str) -> None:
    data = draw(tmp_path, [("Training", "a.png", CLEAR)])
    spoil(data / "ferplus")

    with pytest.raises(DatasetError, match=says):
        ferplus.load(data, "train", "majority")


def test_a_broken_image_is_named(tmp_path: Path, draw: Draw) -> None:
    data = draw(tmp_path, [("Training", "a.png", CLEAR)])
    (data / "ferplus/FER2013Train/a.png").write_bytes(b"no image")

    with pytest.raises(DatasetError, match=r"a\.png cannot be read"):
        ferplus.load(data, "train", "majority").read(0)


def test_a_duplicates_list_without_names_is_refused(tmp_path: Path, draw: Draw) -> None:
    data = draw(tmp_path, [("Training", "a.png", CLEAR)])
    listed = tmp_path / "duplicates.csv"
    listed.write_text("file\na.png\n")

    with pytest.raises(DatasetError, match="lacks the columns image"):
        load("ferplus", data, "train", duplicates=listed)


def test_a_copy_with_other_counts_is_remarked_on(ferplus_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ferplus.load(ferplus_tree, "train", "majority").remark == (
        "FER+ train has 25060 images by this protocol, this copy has 12"
    )
    monkeypatch.setitem(ferplus.EXPECTED, "train", 12)
    assert ferplus.load(ferplus_tree, "train", "majority").remark is None
