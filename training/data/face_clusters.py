"""Face clusters: groups of similar faces as classes, for an identity stage on images without names.

The authors begin from a network that tells 12,666 people apart (MS-Celeb-1M, withdrawn in 2019). Here another
network's embeddings say how close each training image lies to each of some hundred groups of similar faces; a network
that learns these shares learns what tells faces apart (distillation, Hinton et al., 2015).
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.data.datasets.expression_set import DatasetError, ExpressionSet
from training.data.face_embedding import FaceEmbedding

CLUSTERS = 512

TOP_SHARE = 0.5
"""Mean share of an image's nearest cluster, which sets how soft the targets are."""

LEAST_SHARE = 1e-4
"""Shares below this are left out, so that a file of targets stays small."""

ROUNDS = 25
"""Rounds of k-means."""

AT_ONCE = 256


class Clusters(NamedTuple):
    """Groups of embeddings.

    Attributes:
        centres: (clusters, dimensions).
        temperature: what squared distances are divided by.
    """

    centres: Tensor
    temperature: float

    def shares(self, embeddings: Tensor) -> Tensor:
        """Return how close embeddings (N, dimensions) lie to each centre, (N, clusters), rows summing to 1."""
        near = (-torch.cdist(embeddings, self.centres).square() / self.temperature).softmax(dim=1)
        near = near.where(near >= LEAST_SHARE, 0)
        return near / near.sum(dim=1, keepdim=True)


def clusters_of(embeddings: Tensor, count: int, seed: int) -> Clusters:
    """Return groups of embeddings by k-means, and the temperature at which ``TOP_SHARE`` holds.

    Args:
        embeddings: (N, dimensions).
        count: how many groups, at most N.
        seed: chooses where they begin.
    """
    random = torch.Generator().manual_seed(seed)
    centres = embeddings[torch.randperm(len(embeddings), generator=random)[:count].to(embeddings.device)].clone()
    for _ in range(ROUNDS):
        nearest = torch.cdist(embeddings, centres).argmin(dim=1)  # (N,)
        sums = torch.zeros_like(centres).index_add_(0, nearest, embeddings)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    distances = torch.cdist(embeddings, centres).square()
    low, high = 1e-6, 1e2
    for _ in range(60):  # halves the bracket's logarithm each time
        middle = (low * high) ** 0.5
        top = (-distances / middle).softmax(dim=1).amax(dim=1).mean()
        low, high = (middle, high) if top > TOP_SHARE else (low, middle)
    return Clusters(centres, low)


def clustered(
    train: ExpressionSet, valid: ExpressionSet, embedding: FaceEmbedding, *, count: int = CLUSTERS, seed: int = 0
) -> tuple[ExpressionSet, ExpressionSet]:
    """Return both splits as sets of faces by cluster; the clusters are those of the training images.

    Raises:
        DatasetError: if there are fewer training images than clusters.
    """
    if len(train) < count:
        raise DatasetError(f"{len(train)} training images do not make {count} clusters")
    embeddings = _embedded(train, embedding)
    found = clusters_of(embeddings, count, seed)
    names = tuple(f"cluster {number:03d}" for number in range(count))

    def targets(data: ExpressionSet, embeddings: Tensor) -> ExpressionSet:
        shares = found.shares(embeddings).cpu().numpy().astype(np.float32)
        protocol = f"shares of {count} clusters of similar faces, {len(data)} images of {data.name}"
        return replace(data, name="identities", classes=names, targets=shares, protocol=protocol)

    return targets(train, embeddings), targets(valid, _embedded(valid, embedding))


def _embedded(data: ExpressionSet, embedding: FaceEmbedding) -> Tensor:
    parts = []
    for at in range(0, len(data), AT_ONCE):
        images = [data.read(index)[:, :, 0] for index in range(at, min(at + AT_ONCE, len(data)))]
        parts.append(embedding.embed(torch.from_numpy(np.stack(images))))
    return torch.cat(parts)
