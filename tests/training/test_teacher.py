"""Teachers: their answers become a share of the targets, and no more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manet.nn.model import BranchLogits
from manet.weights.registry import get, locate
from training import teacher
from training.data.datasets import load
from training.data.datasets.expression_set import DatasetError
from training.loss import adjust_logits, branch_loss

CPU = torch.device("cpu")
SHIPPED = locate(get("ferplus"))


class Certain(nn.Module):
    """Answers the class that it was given, whatever it sees, and counts the sizes that it saw."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place, self.sizes = place, list[int]()

    def forward(self, images: Tensor) -> BranchLogits:
        assert images.shape[1] == 3
        self.sizes.append(images.shape[-1])
        logits = 50 * torch.eye(8)[[self.place] * len(images)]
        return BranchLogits(logits, logits)


@pytest.fixture
def teachers(monkeypatch: pytest.MonkeyPatch) -> list[Certain]:
    """Two networks in the place of the shipped one, which answer neutral and anger."""
    networks = [Certain(0), Certain(4)]
    left = iter(networks)
    monkeypatch.setattr(teacher, "load_model", lambda *_, **__: next(left))
    return networks


def test_targets_are_mixed_by_the_share(ferplus_tree: Path, teachers: list[Certain]) -> None:
    data = load("ferplus", ferplus_tree, "train", "all_votes")

    found = teacher.with_teacher_targets([SHIPPED, SHIPPED], data, 0.4, CPU)

    wanted = 0.6 * data.targets
    wanted[:, [0, 4]] += 0.4 / 2
    assert np.allclose(found.targets, wanted, atol=1e-3)
    assert found.targets.dtype == np.float32
    assert found.protocol.endswith("40% of each target from 2 teachers")
    assert teachers[0].sizes == teachers[1].sizes == [64, 64, 80, 80, 96, 96]


def test_a_teacher_of_other_classes_is_refused(ferplus_tree: Path) -> None:
    eight = load("ferplus", ferplus_tree, "train")
    seven = replace(eight, classes=eight.classes[:7], targets=eight.targets[:, :7])

    with pytest.raises(DatasetError, match="other classes"):
        teacher.teacher_probabilities([SHIPPED], seven, CPU)


def test_adjusted_logits_cost_a_rare_class_s_images_more() -> None:
    logits = BranchLogits(torch.zeros(1, 2), torch.zeros(1, 2))
    log_prior = torch.tensor([0.9, 0.1]).log()
    rare, common = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])

    adjusted = adjust_logits(logits, log_prior)

    assert branch_loss(adjusted, rare, 0.6) == pytest.approx(-np.log(0.1), abs=1e-5)
    assert branch_loss(adjusted, common, 0.6) == pytest.approx(-np.log(0.9), abs=1e-5)
    assert branch_loss(adjust_logits(logits, 0 * log_prior), rare, 0.6) == pytest.approx(np.log(2), abs=1e-5)
