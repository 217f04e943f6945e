"""Checkpoints: safetensors out and in, and the authors' pickles."""

import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from manet.errors import CheckpointError, ChecksumError
from manet.files import record_sha256
from manet.labels import CLASS_ORDERS
from manet.nn.model import MANet
from manet.weights.checkpoint import load_model, read_authors_checkpoint, save_weights
from manet.weights.header import Header, read_header

HEADER = Header(
    classes=CLASS_ORDERS["ferplus"],
    wiring="bidirectional",
    provenance="random numbers, for a test",
    source_sha256="ab" * 32,
    storage="int8",
)
LIMIT_BYTES = 55_000_000
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def model() -> MANet:
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        model = MANet(8)
    model = model.to_empty(device="cpu")
    for entry in model.state_dict().values():
        if entry.is_floating_point():
            entry.uniform_(0.01, 0.02, generator=generator)
        else:
            entry.fill_(7)
    return model


@pytest.fixture(scope="module")
def int8_file(model: MANet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "weights.safetensors"
    save_weights(model, path, HEADER)
    return path


@pytest.fixture(scope="module")
def stored(int8_file: Path) -> State:
    """The tensors of the int8 file, as they lie there."""
    return load_file(int8_file)


def load(path: Path, **changes: Any) -> MANet:
    return load_model(path, **{"num_classes": 8, "wiring": "bidirectional", **changes})


def test_float32_comes_back_exactly(model: MANet, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    header = Header(classes=CLASS_ORDERS["ferplus"], wiring="unidirectional", provenance="random")
    digest = save_weights(model.state_dict(), path, header)
    loaded = load(path, wiring="unidirectional", sha256=digest)
    assert read_header(path) == header
    assert loaded.wiring == "unidirectional"
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_int8_comes_back_within_half_a_step_and_the_rest_exactly(model: MANet, int8_file: Path, stored: State) -> None:
    loaded = load(int8_file).state_dict()
    assert len(loaded) == 692
    for key, tensor in model.state_dict().items():
        if tensor.ndim > 1:
            assert stored[key].dtype == torch.int8
            step = stored[f"{key}_scale"].max()
            assert loaded[key].dtype == torch.float32
            assert (loaded[key] - tensor).abs().max() <= 0.501 * step
        else:
            assert torch.equal(loaded[key], tensor)


def test_int8_fits_the_wheel(int8_file: Path) -> None:
    assert int8_file.stat().st_size <= LIMIT_BYTES


def test_a_file_says_what_it_is(int8_file: Path) -> None:
    assert read_header(int8_file) == HEADER


def test_loading_draws_no_random_numbers(int8_file: Path) -> None:
    before = torch.get_rng_state()
    load(int8_file)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_tools_file_is_read_as_float32(model: MANet, tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file(model.state_dict(), path, metadata={"format": "pt"})
    assert read_header(path) is None
    assert torch.equal(load(path).state_dict()["fc_1.weight"], model.fc_1.weight)


def test_the_checksum_is_checked(int8_file: Path) -> None:
    with pytest.raises(ChecksumError, match="expected SHA-256 0000"):
        load(int8_file, sha256="0" * 64)


def test_the_checksum_beside_a_file_is_checked(int8_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    shutil.copyfile(int8_file, path)
    record_sha256(path)
    load(path)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    with pytest.raises(ChecksumError, match=r"weights\.safetensors: expected SHA-256"):
        load(path)


def _drop(state: State) -> None:
    del state["layer1.0.conv1.weight"]


def _drop_scale(state: State) -> None:
    del state["layer1.0.conv1.weight_scale"]


def _add(state: State) -> None:
    state["layer9.weight"] = torch.zeros(1)


def _reshape(state: State) -> None:
    state["bn1.weight"] = torch.zeros(65)


def _retype(state: State) -> None:
    state["conv1.weight"] = state["conv1.weight"].float()


def _spoil(state: State) -> None:
    state["bn1.bias"] = torch.full_like(state["bn1.bias"], torch.nan)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop, r"missing key 'layer1\.0\.conv1\.weight'; expected 830 keys, found 829"),
        (_drop_scale, r"missing key 'layer1\.0\.conv1\.weight_scale'"),
        (_add, r"unexpected key 'layer9\.weight'; expected 830 keys, found 831"),
        (_reshape, r"bn1\.weight: expected shape \(64,\), found \(65,\)"),
        (_retype, r"conv1\.weight: expected int8, found float32"),
        (_spoil, r"bn1\.bias: expected finite values"),
    ],
)
def test_what_is_wrong_is_named(stored: State, tmp_path: Path, spoil: Callable[[State], None], message: str) -> None:
    state = dict(stored)
    spoil(state)
    path = tmp_path / "weights.safetensors"
    save_file(state, path, metadata=HEADER.as_metadata())
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_another_class_count_is_named(int8_file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"fc_1\.\w+: expected 7 classes, found 8"):
        load(int8_file, num_classes=7)


def test_another_wiring_is_named(int8_file: Path) -> None:
    with pytest.raises(CheckpointError, match="expected wiring unidirectional, found bidirectional"):
        load(int8_file, wiring="unidirectional")


def test_int8_is_not_guessed(stored: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(stored, path)
    with pytest.raises(CheckpointError, match=r"unexpected key '.*_scale' and 137 more"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"manet_format": "2"}, "expected manet_format 1, found 2"),
        ({"wiring": "sideways"}, "header is broken .*expected one of bidirectional, unidirectional, found 'sideways'"),
        ({"storage": "int4"}, "header is broken .*'int4'"),
        ({"classes": "[1]"}, "header is broken"),
        ({"classes": "neutral"}, "header is broken"),
    ],
)
def test_a_header_of_another_kind_is_an_error(tmp_path: Path, change: Mapping[str, str], message: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={**HEADER.as_metadata(), **change})
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_a_file_that_is_no_safetensors_is_an_error(int8_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(CheckpointError, match="expected a file, found none"):
        load(path)
    for content in (b"", b"hello", int8_file.read_bytes()[:-1000]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="expected a safetensors file"):
            load(path)


def test_what_does_not_fit_its_header_is_not_written(model: MANet, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = model.state_dict()
    seven = Header(classes=CLASS_ORDERS["raf_db"], wiring="bidirectional", provenance="")
    other_way = Header(classes=CLASS_ORDERS["ferplus"], wiring="unidirectional", provenance="")
    without = {key: tensor for key, tensor in state.items() if key != "bn1.bias"}
    spoiled = {**state, "bn1.bias": torch.full((64,), torch.inf)}
    for source, header, message in (
        (model, seven, "expected 7 classes, found 8"),
        (model, other_way, "expected wiring unidirectional, found bidirectional"),
        (without, HEADER, r"missing key 'bn1\.bias'"),
        (spoiled, HEADER, r"bn1\.bias: expected finite values"),
    ):
        with pytest.raises(CheckpointError, match=message):
            save_weights(source, path, header)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["seven", "old_format"])
def test_the_authors_pickles_are_read(authors_checkpoints: Mapping[str, Path], name: str) -> None:
    allowed_before = set(torch.serialization.get_safe_globals())
    state = read_authors_checkpoint(authors_checkpoints[name], num_classes=7)
    assert set(torch.serialization.get_safe_globals()) == allowed_before
    with torch.device("meta"):
        expected = MANet(7).state_dict()
    assert list(state) == list(expected)
    for k, (key, tensor) in enumerate(state.items()):
        assert tensor.shape == expected[key].shape
        assert tensor.eq(k).all()


def test_identity_heads_are_replaced_only_when_asked(authors_checkpoints: Mapping[str, Path]) -> None:
    path = authors_checkpoints["identities"]
    with pytest.raises(CheckpointError, match=r"fc_1\.\w+: expected 8 classes, found 12666"):
        read_authors_checkpoint(path, num_classes=8)
    before = torch.get_rng_state()
    states = [
        read_authors_checkpoint(path, num_classes=8, fresh_heads=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    for k, (key, tensor) in enumerate(states[0].items()):
        if key.startswith(("fc_1", "fc_2")):
            assert tensor.shape[0] == 8
            assert 0 < tensor.abs().max() <= 512**-0.5
            assert torch.equal(tensor, states[1][key])
            assert not torch.equal(tensor, states[2][key])
        else:
            assert tensor.eq(k).all()


class _Hostile:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    saved, plain = tmp_path / "saved.pth", tmp_path / "plain.pth"
    content = {"state_dict": {}, "recorder": _Hostile(made)}
    torch.save(content, saved)
    plain.write_bytes(pickle.dumps(content, protocol=2))
    for path in (saved, plain):
        with pytest.raises(CheckpointError, match=r"^\S+: refused: .*nothing was run$"):
            read_authors_checkpoint(path, num_classes=7)
    assert not made.exists()
    pickle.loads(plain.read_bytes())  # the pickle does work, where nothing protects the reader
    assert made.is_dir()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, "expected a dict with 'state_dict', or of tensors, found 'epoch'"),
        (dict.fromkeys(map(str, range(700)), 1), r"found '0', '1', '2', '3', '4' and 695 more$"),
        ({}, "found an empty one"),
        ([1, 2], "found list"),
        ({"state_dict": {}}, "missing key 'conv1.weight' and 691 more"),
        ({"state_dict": {"module.bn1.bias": 1, "bn1.bias": 1}}, "expected 'bn1.bias' once"),
    ],
)
def test_a_pickle_without_the_network_is_an_error(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        read_authors_checkpoint(path, num_classes=7)


def test_a_state_dict_alone_is_read(authors_checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "bare.pth"
    whole = read_authors_checkpoint(authors_checkpoints["seven"], num_classes=7)
    torch.save({f"module.{key}": value for key, value in whole.items()}, path)

    state = read_authors_checkpoint(path, num_classes=8, fresh_heads=torch.Generator().manual_seed(1))

    assert len(state) == 692
    assert state["fc_1.bias"].shape == (8,)


PAGES = (
    "<!DOCTYPE html><title>Quota</title>",
    "\ufeff\n<html>",
    "<HTML lang=en>",
    "<!-- a proxy's -->\n<!---->\n<html>",
    '<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN">',
    "<head><title>Quota</title>",
)


@pytest.mark.parametrize("page", PAGES)
def test_an_html_page_is_called_one(tmp_path: Path, page: str) -> None:
    path = tmp_path / "Pretrained_on_MSCeleb.pth.tar"
    path.write_text(page, encoding="utf-8")

    with pytest.raises(CheckpointError, match="found an HTML page, as download services send one"):
        read_authors_checkpoint(path, num_classes=7)
    with pytest.raises(CheckpointError, match="expected a safetensors file, found an HTML page"):
        read_header(path)


def test_a_page_of_comments_is_looked_at_in_no_time(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_text("<!---->" * 1000 + "<p>")

    with pytest.raises(CheckpointError, match="found something else"):
        read_header(path)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_entries_that_are_no_plain_tensors_are_named(authors_checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    good = read_authors_checkpoint(authors_checkpoints["seven"], num_classes=7)
    path = tmp_path / "other.pth"
    for entry, message in (
        (3.0, "expected a tensor, found float"),
        (torch.zeros(64).to_sparse(), "found a sparse or an empty tensor"),
        (torch.zeros(64, device="meta"), "found a sparse or an empty tensor"),
        (torch.zeros(64).half(), r"expected float32, found float16"),
    ):
        torch.save({"state_dict": {**good, "bn1.bias": entry}}, path)
        with pytest.raises(CheckpointError, match=message):
            read_authors_checkpoint(path, num_classes=7)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02.", b"PK\x03\x04 and no more"])
def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pth"
    with pytest.raises(CheckpointError, match="expected a file, found none"):
        read_authors_checkpoint(path, num_classes=7)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="expected a PyTorch checkpoint") as caught:
        read_authors_checkpoint(path, num_classes=7)
    assert "\n" not in str(caught.value)
