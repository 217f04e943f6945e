"""Times that a player can follow, from whatever stamps a stream has."""

import pytest

from manet.video.timeline import Timeline


@pytest.mark.parametrize(
    ("stamps", "placed"),
    [
        ([500, 540, 620, 630], [0, 40, 120, 130]),
        ([None, None, None], [0, 40, 80]),
        ([500, None, 580], [0, 40, 80]),
        ([500, 540, 540, 539, 620], [0, 40, 41, 42, 120]),
        ([2500, 2540, 500, 540, 580], [2000, 2040, 2080, 2120, 2160]),
        ([480, 520], [-20, 20]),
    ],
    ids=["even and uneven", "none", "one missing", "rounding", "begun again", "before the clip"],
)
def test_times_count_from_the_clips_beginning_and_only_grow(stamps: list[int | None], placed: list[int]) -> None:
    timeline = Timeline(start=500, step=40, second=1000)

    assert [timeline.place(stamp) for stamp in stamps] == placed
