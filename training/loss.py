"""The training loss: both branches' cross-entropies, weighted as their predictions are."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from manet.nn.model import BranchLogits


def branch_loss(logits: BranchLogits, targets: Tensor, fusion_weight: float | None) -> Tensor:
    """Return lambda * CE(local) + (1 - lambda) * CE(multi-scale), a scalar (paper, section III-C).

    Args:
        logits: of both branches, (N, classes) each.
        targets: class indices (N,) or distributions (N, classes).
        fusion_weight: the paper's lambda, 0..1; None adds the two as they are (which is what the authors' logs of
            AffectNet-8, SFEW and FED-RO fit).
    """
    local = cross_entropy(logits.local, targets)
    multi_scale = cross_entropy(logits.multi_scale, targets)
    if fusion_weight is None:
        return local + multi_scale
    return fusion_weight * local + (1 - fusion_weight) * multi_scale


def adjust_logits(logits: BranchLogits, offsets: Tensor) -> BranchLogits:
    """Return the logits of both branches plus an offset for each class, (classes,)."""
    return BranchLogits(logits.local + offsets, logits.multi_scale + offsets)
