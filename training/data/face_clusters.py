"""Face clusters: clusters of similar faces as classes, for an identity stage on images without identities.

The authors start from a network that distinguishes 12,666 people (MS-Celeb-1M, withdrawn in 2019). Here another
network's embeddings give how close each training image is to each of some hundred clusters of similar faces; a
network that learns these soft targets learns to distinguish faces (distillation, Hinton et al., 2015).
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
"""Mean share of an image's nearest cluster, which sets the softness of the targets."""

MIN_SHARE = 1e-4
"""Smaller shares are set to zero, so that a file of targets stays small."""

ITERATIONS = 25
"""Iterations of k-means."""

BATCH_SIZE = 256


class Clusters(NamedTuple):
    """Clusters of embeddings.

    Attributes:
        centres: (clusters, dimensions).
        temperature: what squared distances are divided by.
    """

    centres: Tensor
    temperature: float

    def shares(self, embeddings: Tensor) -> Tensor:
        """Return how close embeddings (N, dimensions) are to each centre, (N, clusters), rows summing to 1."""
        near = (-torch.cdist(embeddings, self.centres).square() / self.temperature).softmax(dim=1)
        near = near.where(near >= MIN_SHARE, 0)
        return near / near.sum(dim=1, keepdim=True)


def find_clusters(embeddings: Tensor, count: int, seed: int) -> Clusters:
    """Return clusters of embeddings by k-means, with the temperature at which ``TOP_SHARE`` holds.

    Args:
        embeddings: (N, dimensions).
        count: number of clusters, at most N.
        seed: of the initial centres.
    """
    random = torch.Generator().manual_seed(seed)
    centres = embeddings[torch.randperm(len(embeddings), generator=random)[:count].to(embeddings.device)].clone()
    for _ in range(ITERATIONS):
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


def cluster_set(
    train: ExpressionSet, valid: ExpressionSet, embedding: FaceEmbedding, *, count: int = CLUSTERS, seed: int = 0
) -> tuple[ExpressionSet, ExpressionSet]:
    """Return both splits with clusters as classes; the clusters are those of the training images.

    Raises:
        DatasetError: if there are fewer training images than clusters.
    """
    if len(train) < count:
        raise DatasetError(f"{len(train)} training images are too few for {count} clusters")
    embeddings = _embed(train, embedding)
    found = find_clusters(embeddings, count, seed)
    names = tuple(f"cluster {number:03d}" for number in range(count))

    def targets(data: ExpressionSet, embeddings: Tensor) -> ExpressionSet:
        shares = found.shares(embeddings).cpu().numpy().astype(np.float32)
        protocol = f"shares of {count} clusters of similar faces, {len(data)} images of {data.name}"
        return replace(data, name="identities", classes=names, targets=shares, protocol=protocol)

    return targets(train, embeddings), targets(valid, _embed(valid, embedding))


def _embed(data: ExpressionSet, embedding: FaceEmbedding) -> Tensor:
    parts = []
    for at in range(0, len(data), BATCH_SIZE):
        images = [data.read(index)[:, :, 0] for index in range(at, min(at + BATCH_SIZE, len(data)))]
        parts.append(embedding.embed(torch.from_numpy(np.stack(images))))
    return torch.cat(parts)
