"""A graphed step takes every step once, on the inputs that it is given; a stand-in for CUDA shows the order."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor

from training.cuda_graphs import WARMUP_STEPS, GraphedStep


class Device:
    """A stand-in for a CUDA device: what runs while it captures is not done, but again at each replay."""

    def __init__(self) -> None:
        self.done: list[float] = []
        self.captures = 0
        self._captured: tuple[Tensor, Tensor] | None = None
        self._capturing = False

    def step(self, x: Tensor) -> Tensor:
        """Sum the numbers of an input."""
        if self._capturing:
            self._captured = x, torch.zeros(())
            return self._captured[1]
        self.done.append(float(x.sum()))
        return x.sum()

    @contextmanager
    def capture(self, graph: object) -> Iterator[None]:
        self.captures += 1
        self._capturing = True
        yield
        self._capturing = False

    def replay(self) -> None:
        assert self._captured is not None
        x, output = self._captured
        output.copy_(x.sum())
        self.done.append(float(x.sum()))


class Stream:
    def wait_stream(self, other: "Stream") -> None: ...


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    found = Device()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: found)
    monkeypatch.setattr(torch.cuda, "graph", found.capture)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    return found


def test_every_step_is_taken_once_on_its_own_input(device: Device) -> None:
    step = GraphedStep(device.step)

    found = [step(torch.full((2,), float(number))) for number in range(8)]

    assert [float(x) for x in found] == device.done == [2.0 * number for number in range(8)]
    assert device.captures == 1


def test_another_shape_warms_up_and_is_captured_again(device: Device) -> None:
    step = GraphedStep(device.step)
    small, large = torch.ones(2), torch.ones(3)

    found = [float(step(x)) for x in [small] * 6 + [large] * 6]

    assert found == device.done == [2.0] * 6 + [3.0] * 6
    assert device.captures == 2


def test_steps_before_the_capture_make_the_state(device: Device) -> None:
    step = GraphedStep(device.step)

    for _ in range(WARMUP_STEPS):
        step(torch.ones(2))

    assert device.captures == 0
