"""The network against the authors' numbers, and its shapes and sizes."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from manet.nn.model import BranchLogits, MANet, fuse
from manet.nn.wiring import Wiring
from testing.weights import NARROW

GOLDEN = Path(__file__).parents[2] / "golden"
RELEASES: list[tuple[str, Wiring]] = [("2023", "bidirectional"), ("2021", "unidirectional")]
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The reference was computed on one thread, which fixes the order of every sum."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    with np.load(GOLDEN / "reference.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def keys() -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads((GOLDEN / "reference_keys.json").read_text())
    return shapes


@pytest.fixture(scope="module")
def golden_state(keys: dict[str, list[int]]) -> dict[str, Tensor]:
    """The state dict behind the reference: each entry drawn from a generator that its key seeds."""
    return {key: torch.from_numpy(_golden_entry(key, shape)) for key, shape in keys.items()}


def _golden_entry(key: str, shape: list[int]) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(zlib.crc32(f"golden-a/{key}".encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif key.endswith("running_mean"):
        values = rng.normal(0, 0.1, shape)
    elif len(shape) > 1:
        values = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif key.endswith("weight"):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.normal(0, 0.1, shape)
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def golden_images() -> Tensor:
    rng = np.random.default_rng(zlib.crc32(b"golden-a/images"))
    return torch.from_numpy(rng.uniform(0, 1, (2, 3, 224, 224)).astype(np.float32))


def golden_model(wiring: Wiring, state: dict[str, Tensor]) -> MANet:
    with torch.device("meta"):
        model = MANet(7, wiring=wiring)
    # A pass in train mode changes running statistics: each model has its own.
    model.load_state_dict({key: tensor.clone() for key, tensor in state.items()}, assign=True)
    return model


def golden_loss(logits: BranchLogits) -> Tensor:
    targets = torch.tensor([1, 4])
    return 0.6 * cross_entropy(logits.local, targets) + 0.4 * cross_entropy(logits.multi_scale, targets)


def relative_error(found: Tensor, expected: np.ndarray[Any, Any]) -> float:
    """The largest difference, relative to the largest magnitude: single entries of the reference lie near zero."""
    difference = np.abs(found.detach().double().numpy() - expected)
    return float(difference.max() / np.abs(expected).max())


@pytest.mark.parametrize(("release", "wiring"), RELEASES)
def test_forward_matches_the_authors(
    release: str,
    wiring: Wiring,
    golden_state: dict[str, Tensor],
    golden_images: Tensor,
    reference: dict[str, Any],
) -> None:
    model = golden_model(wiring, golden_state)
    with torch.no_grad():
        in_eval, in_train = model.eval()(golden_images), model.train()(golden_images)
    found = {
        "eval_local": in_eval.local,
        "eval_multi_scale": in_eval.multi_scale,
        "train_local": in_train.local,
        "train_multi_scale": in_train.multi_scale,
        "loss": golden_loss(in_train),
        # After the one pass in train mode.
        "running_mean_layer4_2.1.bn2_2_3": model.state_dict()["layer4_2.1.bn2_2_3.running_mean"],
    }
    errors = {name: relative_error(value, reference[f"{release}/{name}"]) for name, value in found.items()}
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize(("release", "wiring"), RELEASES)
def test_gradients_match_the_authors(
    release: str,
    wiring: Wiring,
    golden_state: dict[str, Tensor],
    golden_images: Tensor,
    reference: dict[str, Any],
) -> None:
    # In float64, so that nothing but the reference's own rounding is measured. The gradient of the first layer comes
    # through the whole depth in train mode, and its float32 rounding differs from one CPU to the next: on one with
    # AVX2 this network's own float32 norm is 1.0e-4 off its float64 norm (and 1.2e-4 off the reference), while the
    # float64 norms of all seven parameters lie within 2.7e-5 of the reference.
    model = golden_model(wiring, golden_state).double().train().requires_grad_(False)
    parameters = [model.get_parameter(name).requires_grad_() for name in reference["grad_names"]]
    loss = golden_loss(model(golden_images.double()))
    norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in torch.autograd.grad(loss, parameters)])
    expected = reference[f"{release}/grad_norms"]
    assert np.abs(norms.numpy() / expected - 1).max() < TOLERANCE


def test_the_wirings_differ(golden_state: dict[str, Tensor]) -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = (golden_model(wiring, golden_state).eval()(images) for _, wiring in RELEASES)
    assert torch.equal(one.local, other.local)
    assert not torch.allclose(one.multi_scale, other.multi_scale, rtol=1e-2)


@pytest.mark.parametrize(("_release", "wiring"), RELEASES)
def test_keys_and_shapes_are_the_authors(_release: str, wiring: Wiring, keys: dict[str, list[int]]) -> None:
    with torch.device("meta"):
        state = MANet(7, wiring=wiring).state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == keys
    assert list(state) == list(keys)  # in their order, too
    assert len(state) == 692


def test_parameter_count() -> None:
    with torch.device("meta"):
        model = MANet(7)
    assert sum(parameter.numel() for parameter in model.parameters()) == 50_547_214


def test_an_unknown_wiring_is_refused() -> None:
    with pytest.raises(ValueError, match="sideways"):
        MANet(7, wiring="sideways")  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [0, -4, 6])
def test_a_width_that_cannot_be_split_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"width must be a positive multiple of 4, not {width}"):
        MANet(7, width=width)


def test_fuse_weighs_the_branches() -> None:
    logits = BranchLogits(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert fuse(logits, 0.75).tolist() == [[0.75, 0.25]]


@pytest.fixture(scope="module")
def model() -> MANet:
    torch.manual_seed(0)
    return MANet(8, width=NARROW).eval()


def images(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 48), (64, 64), (100, 100), (33, 97)])
def test_any_size_from_32_px(model: MANet, height: int, width: int) -> None:
    with torch.no_grad():
        logits = model(images(2, height, width))
    for branch in logits:
        assert branch.shape == (2, 8)
        assert torch.isfinite(branch).all()


def test_rows_of_a_batch_do_not_touch_each_other(model: MANet) -> None:
    batch = images(3, 64, 64)
    with torch.no_grad():
        together = model(batch)
        alone = [model(image[None]) for image in batch]
    for k, branch in enumerate(together):
        torch.testing.assert_close(branch, torch.cat([logits[k] for logits in alone]), rtol=1e-4, atol=1e-5)


def test_export_with_a_dynamic_batch(model: MANet) -> None:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (images(2, 64, 64),), dynamic_shapes=({0: batch},))
    exported = program.module()
    for count in (1, 2, 5):
        with torch.no_grad():
            found, expected = exported(images(count, 64, 64)), model(images(count, 64, 64))
        for one, other in zip(found, expected, strict=True):
            assert one.shape == (count, 8)
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
