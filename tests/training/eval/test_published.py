"""The authors' published runs, and the registry's figures from them."""

import pytest

from manet.weights.registry import get
from training.eval.published import published_run

AUTHORS = ("caer_s", "affectnet7", "affectnet8", "raf_db", "sfew")


@pytest.mark.parametrize("id", AUTHORS)
def test_the_registry_holds_the_figures_of_the_authors_logs(id: str) -> None:
    run = published_run(id)
    assert run is not None
    (figures,) = get(id).published
    assert figures.accuracy == pytest.approx(run.best, abs=0.001)
    assert figures.last == pytest.approx(run.last, abs=0.006)
    assert figures.mean_of_last_ten == pytest.approx(run.mean_of_last_ten, abs=0.006)
    assert f"epoch {run.best_epoch} of 0..{len(run.accuracies) - 1}" in figures.source


def test_an_epoch_after_the_end_has_no_figure() -> None:
    run = published_run("raf_db")

    assert run is not None
    assert len(run.accuracies) == 100
    assert run.at(0) == 71.871
    assert run.at(100) is None


def test_a_data_set_without_a_published_run() -> None:
    assert published_run("ferplus") is None
