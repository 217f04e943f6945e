"""CUDA graphs for training: a whole step replayed without launching each of its kernels.

A step of MA-Net is a few thousand small kernels: augmentation, both passes, the optimiser. On a recent GPU
launching them takes several times as long as running them at inputs near 64 px.
"""

from collections.abc import Callable

import torch
from torch import Tensor

WARMUP_STEPS = 3
"""Steps that run without a graph before one is captured: they create the optimiser's state and choose algorithms."""


class GraphedStep:
    """A step of training that is captured once for each shape of its inputs and replayed from then on.

    The first steps of a shape, ``WARMUP_STEPS``, run without a graph. All of them count: none is run twice.

    Args:
        step: takes tensors on a CUDA device, returns one, and reads or changes nothing but tensors on that device. It
            sets gradients to None before it computes them, so that they are in the graph's own memory.
    """

    def __init__(self, step: Callable[..., Tensor]) -> None:
        self._step = step
        self._shapes: list[tuple[torch.Size, torch.dtype]] = []
        self._steps = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._output = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run a step and return what it returns."""
        shapes = [(x.shape, x.dtype) for x in inputs]
        if shapes != self._shapes:
            self._shapes, self._steps = shapes, 0
            self._graph, self._inputs, self._output = None, (), torch.empty(0)  # frees the old graph's memory
        if self._steps < WARMUP_STEPS:
            self._steps += 1
            return self._warm_up(inputs)
        if self._graph is None:
            self._inputs = tuple(x.clone() for x in inputs)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._output = self._step(*self._inputs)
        else:
            for kept, x in zip(self._inputs, inputs, strict=True):
                kept.copy_(x)
        self._graph.replay()
        return self._output.clone()

    def _warm_up(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Run a step on a stream of its own, as capturing does."""
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            output = self._step(*inputs)
        current.wait_stream(stream)
        return output
