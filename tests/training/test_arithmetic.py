"""A GPU computes as fast as it harmlessly can, and the run says so."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from training.arithmetic import arithmetic, set_arithmetic
from training.distributed import default_readers


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    """Begin with nothing set, and leave PyTorch as it was."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn  # PyTorch sets its ``conv`` in a way that mypy does not see
    conv = cudnn.conv
    before = matmul.fp32_precision, conv.fp32_precision, torch.backends.cudnn.benchmark
    matmul.fp32_precision, conv.fp32_precision, torch.backends.cudnn.benchmark = "ieee", "tf32", False
    yield
    matmul.fp32_precision, conv.fp32_precision, torch.backends.cudnn.benchmark = before


def test_a_gpu_computes_in_tf32_and_measures_convolutions() -> None:
    device = torch.device("cuda")
    assert arithmetic(device) == {"tf32": False, "cudnn_benchmark": False}

    set_arithmetic(device)

    assert arithmetic(device) == {"tf32": True, "cudnn_benchmark": True}


def test_a_cpu_is_left_as_it_is() -> None:
    set_arithmetic(torch.device("cpu"))

    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert not torch.backends.cudnn.benchmark
    assert arithmetic(torch.device("cpu")) is None


def test_readers_are_as_many_as_the_cores_of_a_process_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.distributed.available_cpus", lambda: 16)

    assert default_readers(torch.device("cuda"), {}) == 15
    assert default_readers(torch.device("cuda"), {"LOCAL_WORLD_SIZE": "4"}) == 3
    assert default_readers(torch.device("cuda"), {"LOCAL_WORLD_SIZE": "16"}) == 1
    assert default_readers(torch.device("cpu"), {}) == 0
