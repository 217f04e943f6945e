"""RetinaFace's network in PyTorch: it says what OpenVINO's says, of a canvas alone and of one among others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from manet.backends.openvino.face_network import OpenVinoFaceNetwork
from manet.backends.selection import Choice
from manet.backends.torch_face_network import RetinaFaceNetwork, TorchFaceNetwork, load
from manet.errors import ChecksumError
from manet.vision.face_network import MOST_CANDIDATES, NETWORK_FILE, Candidates
from manet.vision.preprocess import Pixels
from manet.vision.retinaface import RetinaFaceDetector, _canvas

CPU = torch.device("cpu")


class OneByOne:
    """A network for batches as one for single canvases."""

    threads = 1

    def __init__(self, network: TorchFaceNetwork) -> None:
        self._network = network

    def candidates(self, canvas: Pixels, least: float) -> Candidates:
        [found] = self._network.batch([canvas], least)
        return found


@pytest.fixture(scope="module")
def network() -> TorchFaceNetwork:
    return TorchFaceNetwork(CPU, half=False)


@pytest.fixture(scope="module")
def openvino() -> OpenVinoFaceNetwork:
    return OpenVinoFaceNetwork(threads=1)


@pytest.fixture(scope="module")
def portrait() -> Pixels:
    image: Pixels = skimage.data.astronaut()
    return image


def _assert_close(found: Sequence[Candidates], wanted: Sequence[Candidates]) -> None:
    for one, other in zip(found, wanted, strict=True):
        first, second = np.argsort(one.places), np.argsort(other.places)
        np.testing.assert_array_equal(one.places[first], other.places[second])
        for name in ("scores", "offsets", "points"):
            np.testing.assert_allclose(getattr(one, name)[first], getattr(other, name)[second], atol=1e-4)
            assert getattr(one, name).dtype == np.float32


@pytest.mark.parametrize("side", [192, 320, 640])
def test_it_says_what_openvino_says_of_several_canvases(
    network: TorchFaceNetwork, openvino: OpenVinoFaceNetwork, portrait: Pixels, side: int
) -> None:
    wide = np.ascontiguousarray(portrait[60:400])
    canvases = [_canvas(wide, side).pixels, _canvas(wide, side, turned=True).pixels]
    canvases.append(np.random.default_rng(side).integers(0, 256, canvases[0].shape, dtype=np.uint8))

    found = network.batch(canvases, 0.05)

    assert len(found[0].places) > 5
    _assert_close(found, [openvino.candidates(canvas, 0.05) for canvas in canvases])


def test_of_all_priors_the_best_come_first_and_no_more_than_the_bound(
    network: TorchFaceNetwork, portrait: Pixels
) -> None:
    canvas = _canvas(portrait, 320).pixels
    [found] = network.batch([canvas], 0.0)

    assert [len(part) for part in found] == [MOST_CANDIDATES] * 4
    assert (np.diff(found.scores) <= 0).all()
    assert [len(part) for part in network.batch([canvas], 1.1)[0]] == [0] * 4


@pytest.mark.parametrize("size", [(512, 512), (900, 500), (100, 160), (1600, 1200)])
def test_the_detector_finds_the_same_faces(
    network: TorchFaceNetwork, openvino: OpenVinoFaceNetwork, portrait: Pixels, size: tuple[int, int]
) -> None:
    image = np.asarray(Image.fromarray(portrait).resize(size))
    [found] = RetinaFaceDetector(OneByOne(network)).detect(image)
    [wanted] = RetinaFaceDetector(openvino).detect(image)

    assert found.confidence == pytest.approx(wanted.confidence, abs=1e-4)
    for name in ("x", "y", "width", "height"):
        assert getattr(found.box, name) == pytest.approx(getattr(wanted.box, name), abs=0.05)


def test_float16_finds_the_face_within_a_pixel(portrait: Pixels, openvino: OpenVinoFaceNetwork) -> None:
    [found] = RetinaFaceDetector(OneByOne(TorchFaceNetwork(CPU, half=True))).detect(portrait)
    [wanted] = RetinaFaceDetector(openvino).detect(portrait)

    assert found.confidence == pytest.approx(wanted.confidence, abs=0.01)
    for name in ("x", "y", "width", "height"):
        assert getattr(found.box, name) == pytest.approx(getattr(wanted.box, name), abs=1)


def test_an_answer_is_the_caller_s_own_and_batches_may_grow_and_shrink(
    network: TorchFaceNetwork, portrait: Pixels
) -> None:
    canvas = _canvas(portrait, 192).pixels
    [alone] = network.batch([canvas], 0.5)
    kept = [part.copy() for part in alone]
    network.batch([255 - canvas] * 5, 0.5)

    for part, before in zip(alone, kept, strict=True):
        np.testing.assert_array_equal(part, before)
    _assert_close(network.batch([canvas] * 2, 0.5), [alone] * 2)


def test_numbers_that_are_not_finite_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    network = TorchFaceNetwork(CPU, half=False)
    monkeypatch.setattr(
        RetinaFaceNetwork, "forward", lambda *_: (torch.full((1, 3), torch.nan), *[torch.zeros(1, 3, 9)] * 2)
    )

    with pytest.raises(RuntimeError, match="not finite"):
        network.batch([np.zeros((32, 32, 3), np.uint8)], 0.5)


@pytest.mark.parametrize(
    ("precision", "kind"), [("float16", torch.float16), ("float32", torch.float32), ("bf16", torch.float32)]
)
def test_it_runs_in_float16_where_the_other_network_does(precision: str, kind: torch.dtype) -> None:
    made = load(Choice("torch", precision, "cpu", ""))  # type: ignore[arg-type]

    assert {weight.dtype for weight in made._network.parameters()} == {kind}


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(NETWORK_FILE.read_bytes() + b"0")

    with pytest.raises(ChecksumError, match=r"network\.onnx"):
        TorchFaceNetwork(CPU, half=False, path=tmp_path / "network.onnx")
