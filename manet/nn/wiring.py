"""The wiring: what the network's two forms, in PyTorch and in OpenVINO, and its files have in common.

It stands apart from the network so that what describes weights, or builds the network for another engine, can name it
without loading PyTorch.
"""

from typing import Literal

Wiring = Literal["bidirectional", "unidirectional"]
"""Direction of the multi-scale block's second cascade.

``bidirectional`` is the authors' corrected code of 2023-04-15 and what the paper describes; ``unidirectional``
is their first release of 2021. Both have the same keys and give different numbers.
"""

PATCHES = 4
"""Patches that the local attention module cuts the features into, row by row."""

SUBSETS = 4
"""Channel subsets in a multi-scale block (paper, section III-B)."""

WIDTH = 64
"""Channels behind the first convolution, of which all others are multiples (paper, section III-A: a ResNet-18's)."""

REDUCTION = 16
"""Width of the channel gate's hidden layer is the channel count divided by this (CBAM, section 3)."""

EPSILON = 1e-5
"""Added to each variance before BatchNorm divides by its root; PyTorch's default."""


def cascade_orders(wiring: Wiring) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the orders in which the two cascades of a multi-scale block run over its subsets, counted from 0."""
    forward = tuple(range(SUBSETS))
    return forward, forward[::-1] if wiring == "bidirectional" else forward


def check_width(width: int) -> None:
    """Make sure that subsets and hidden layers of a network of that width are whole.

    Raises:
        ValueError: if it is not a positive multiple of 4.
    """
    if width < 1 or width % SUBSETS:
        raise ValueError(f"width must be a positive multiple of {SUBSETS}, not {width}")
