"""The targets of fuzzing hold for the seeds and for what Hypothesis makes of them; atheris itself is not needed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS, forms, images
from tests.fuzz.targets import TARGETS, decode, with_sums

DRAWN = {"decode": dict(images()), "multipart": dict(forms())}
CASES = [(target, name) for target, drawn in DRAWN.items() for name in drawn]


@pytest.mark.parametrize(("target", "name"), CASES)
def test_every_seed_is_in_the_repository_and_holds(target: str, name: str) -> None:
    TARGETS[target]((SEEDS / target / name).read_bytes())


def test_there_is_no_seed_that_is_not_drawn() -> None:
    found = sorted((path.parent.name, path.name) for path in SEEDS.glob("*/*"))

    assert found == sorted(CASES)
    assert sum(path.stat().st_size for path in SEEDS.glob("*/*")) < 40_000


def test_a_sum_that_is_right_stays() -> None:
    for data in DRAWN["decode"].values():
        assert with_sums(data) == data


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(CASES),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_damaged_seeds_hold(case: tuple[str, str], changes: list[tuple[float, int]], kept: float) -> None:
    target, name = case
    data = bytearray(DRAWN[target][name])
    for place, value in changes:
        data[int(place * len(data))] = value
    TARGETS[target](bytes(data[: round(kept * len(data))]))
    if target == "decode":
        decode(with_sums(bytes(data)))
