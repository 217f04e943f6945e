"""Explanations: numbers that add up, and maps that lie where they should."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from typer.testing import CliRunner

from manet.__main__ import app
from manet.backends.torch_cpu import TorchBackend
from manet.explain.attribution import Explainer
from manet.explain.overlays import draw_attention, draw_evidence
from manet.explain.result import FaceMap, record
from manet.labels import CLASS_ORDERS, Expression
from manet.nn.classifier import FusedClassifier, load_classifier
from manet.nn.model import MANet, fuse
from manet.recognizer import FaceInput, Recognizer
from manet.vision.preprocess import Preprocessing
from testing.fakes import WEIGHTS as FAKE_WEIGHTS
from testing.fakes import FakeDetector
from testing.occlusion import MAPS, covered, evidence_of, most_evidence, probabilities
from testing.weights import NARROW

ROOT = Path(__file__).parents[3]
EIGHT = CLASS_ORDERS["ferplus"]


@pytest.fixture(scope="module")
def real() -> tuple[Recognizer, Explainer]:
    """The shipped weights."""
    recognizer = Recognizer.from_weights(backend="torch")
    return recognizer, Explainer.load(recognizer)


@pytest.fixture(scope="module")
def astronaut(real: tuple[Recognizer, Explainer]) -> FaceInput:
    [face] = real[0].find(skimage.data.astronaut(), max_faces=1).faces
    return face


def _random(side: int) -> tuple[FusedClassifier, Explainer]:
    torch.manual_seed(0)
    spec = Preprocessing(input_size=side, colour="rgb")
    classifier = FusedClassifier(MANet(8, width=NARROW), spec, 0.6).eval()
    recognizer = Recognizer(FAKE_WEIGHTS, TorchBackend(classifier), FakeDetector())
    return classifier, Explainer(recognizer, classifier)


def _noise(side: int) -> FaceInput:
    return FaceInput(None, np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize("side", [32, 72, 96])
def test_the_evidence_and_the_bias_sum_to_the_score(side: int) -> None:
    classifier, explainer = _random(side)
    face = _noise(side)

    told = explainer.explain(face, Expression.FEAR)

    with torch.no_grad():
        x = classifier.normalise(torch.from_numpy(face.pixels)[None].permute(0, 3, 1, 2))
        logits = classifier.network(x)
    fear = EIGHT.index(Expression.FEAR)
    for branch, ours in ((told.local, logits.local), (told.multi_scale, logits.multi_scale)):
        rounding = 1e-5 * (1 + float(np.abs(branch.evidence.values).sum()))  # an untrained network's sums are large
        assert branch.score == pytest.approx(float(ours[0, fear] - ours[0].mean()), abs=rounding)
    # The bias was not told to the explainer: it is what no position accounts for.
    linear = classifier.network.fc_1
    rounding = 1e-5 * (1 + float(np.abs(told.local.evidence.values).sum()))
    assert told.local.bias == pytest.approx(float((linear.bias[fear] - linear.bias.mean()).detach()), abs=rounding)
    patches = sum(patch.evidence for patch in told.patches)
    assert patches == pytest.approx(float(told.local.evidence.values.sum()), rel=1e-4, abs=1e-4)
    answer = told.answer.probabilities
    expected = torch.softmax(fuse(logits, 0.6)[0] / FAKE_WEIGHTS.temperature, 0)
    assert list(answer.values()) == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_map_is_the_class_activation_map_in_closed_form() -> None:
    classifier, explainer = _random(64)
    face = _noise(64)
    kept: list[torch.Tensor] = []
    hook = classifier.network.get_submodule("layer4_1_p1").register_forward_hook(
        lambda _m, _i, output: kept.append(output)
    )

    told = explainer.explain(face, Expression.ANGER)

    hook.remove()
    weight = classifier.network.fc_1.weight.detach()
    anger = weight[EIGHT.index(Expression.ANGER)] - weight.mean(dim=0)
    features = kept[0].detach()[0]
    expected = torch.einsum("k,khw->hw", anger, features) / told.local.evidence.values.size
    rows, columns = expected.shape
    assert told.local.evidence.values[:rows, :columns] == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_multi_scale_evidence_is_what_a_face_adds_to_no_features(
    real: tuple[Recognizer, Explainer], astronaut: FaceInput
) -> None:
    recognizer, explainer = real
    network = load_classifier(recognizer.weights, None).network.eval()

    told = explainer.explain(astronaut)

    with torch.no_grad():
        empty = network.fc_2(network.multi_scale(torch.zeros(1, 128, 10, 10)))[0]
    happy = EIGHT.index(Expression.HAPPINESS)
    assert told.multi_scale.evidence.values.shape == (10, 10)
    assert told.multi_scale.bias == pytest.approx(float(empty[happy] - empty.mean()), abs=0.2)
    assert abs(float(told.multi_scale.evidence.values.sum())) > 2


def test_a_patch_is_explained_by_its_own_quarter_alone() -> None:
    """What happens in the lower right corner is far from the upper left patch, which never sees it."""
    _, explainer = _random(224)  # a position of the features sees some 50 px around it
    face = _noise(224)
    changed = FaceInput(None, face.pixels.copy())
    changed.pixels[200:, 200:] = 255

    before = explainer.explain(face)
    after = explainer.explain(changed, before.expression)

    assert [
        a.evidence == pytest.approx(b.evidence, abs=1e-6) for a, b in zip(before.patches, after.patches, strict=True)
    ] == [
        True,
        True,
        True,
        False,
    ]
    assert all(0 <= patch.attention <= 1 for patch in before.patches)
    assert before.attention.values.shape == before.local.evidence.values.shape
    assert sum(patch.share for patch in before.patches) == pytest.approx(1)


def test_a_map_lies_over_the_face_where_its_positions_are() -> None:
    grid = np.arange(9, dtype=np.float32).reshape(3, 3)

    whole = FaceMap(grid, stride=32).laid_over(80)
    cut = FaceMap(grid, stride=16, seam=(2, 32)).laid_over(48)

    assert whole.shape == (80, 80)
    assert (whole[0, 0], whole[32, 32], whole[64, 64], whole[79, 79]) == (0, 4, 8, 8)
    assert whole[16, 0] == pytest.approx(1.5)
    assert (cut[0, 0], cut[16, 16], cut[31, 31], cut[32, 32]) == (0, 4, 4, 8)


@pytest.mark.parametrize("side", [32, 72, 80, 88])
def test_the_seam_is_where_the_network_cuts(side: int) -> None:
    classifier, explainer = _random(side)
    sizes: list[int] = []
    network = classifier.network
    first_patch = network.get_submodule("layer3_1_p1")
    hooks = [
        network.layer2.register_forward_hook(lambda _m, _i, output: sizes.append(output.shape[-1])),
        first_patch.register_forward_hook(lambda _m, inputs, _o: sizes.append(inputs[0].shape[-1])),
    ]
    told = explainer.explain(_noise(side))
    for hook in hooks:
        hook.remove()

    features, first = sizes[:2]
    assert features == -(-side // 8)
    assert told.local.evidence.seam is not None
    assert told.local.evidence.seam[1] == 8 * first
    assert told.fused().shape == (side, side)


@pytest.mark.parametrize("name", MAPS)
def test_covering_what_a_map_points_at_moves_the_answer_more_than_covering_any_place(
    name: str, real: tuple[Recognizer, Explainer]
) -> None:
    """A drawn smile; `bench/studies/explain.py` does the same with hundreds of photographs."""
    recognizer, explainer = real
    drawn = np.asarray(Image.open(ROOT / "service/web/drawn-faces.jpg").convert("RGB"))
    [smile] = [
        one for one in recognizer.find(drawn).faces if explainer.explain(one).answer.expression == Expression.HAPPINESS
    ]
    side = 24
    pointed = most_evidence(evidence_of(explainer.explain(smile))[name], side)
    steps = range(0, len(smile.pixels) - side + 1, 8)
    everywhere = [(row, column) for row in steps for column in steps]

    shown = [covered(smile.pixels, corner, side) for corner in (pointed, *everywhere)]
    happy = probabilities(recognizer, [smile.pixels, *shown])[:, EIGHT.index(Expression.HAPPINESS)]

    fell = happy[0] - happy[1:]
    assert fell[0] > 2 * fell[1:].mean()
    assert fell[0] > 0.2  # the weights were trained with parts covered, and still see the smile


def test_an_expression_that_the_weights_do_not_know() -> None:
    _, explainer = _random(32)
    with pytest.raises(ValueError, match="boredom is none of them"):
        explainer.explain(_noise(32), cast(Expression, "boredom"))


def test_evidence_is_red_for_and_blue_against() -> None:
    face = np.full((4, 4, 3), 100, np.uint8)
    values = np.zeros((4, 4), np.float32)
    values[0, 0], values[3, 3] = 2.0, -1.0

    drawn = np.asarray(draw_evidence(face, values, 4)).astype(int)
    shut = np.asarray(draw_attention(face, np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4), 4))

    assert drawn[0, 0, 0] - drawn[0, 0, 2] > drawn[3, 3, 2] - drawn[3, 3, 0] > 20
    assert (drawn[1, 2] == 100).all()
    assert (shut[0, 0].max(), shut[3, 3].min()) == (0, 100)
    assert (np.asarray(draw_evidence(face, np.zeros((4, 4), np.float32), 4)) == 100).all()


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "face.png")
    run = CliRunner(env={"COLUMNS": "200"}).invoke

    told = run(app, ["explain", str(tmp_path / "face.png"), "--out", str(tmp_path / "why")])
    machine = run(app, ["explain", str(tmp_path / "face.png"), "--json", "--expression", "fear"])
    broken = run(app, ["explain", str(tmp_path / "absent.png")])

    assert told.exit_code == 0, told.output
    assert told.stdout.startswith("face 1: answer happiness 100%, local happiness 100%, multi-scale happiness 100%")
    assert "lower left" in told.stdout
    names = [f"face-1-{name}.png" for name in ("attention", "face", "local", "multi-scale")]
    assert sorted(path.name for path in (tmp_path / "why").iterdir()) == names
    [face] = json.loads(machine.stdout)["faces"]
    assert (face["expression"], face["explanation"]["expression"]) == ("happiness", "fear")
    assert (broken.exit_code, "No such file" in broken.stderr) == (1, True)


def test_the_record_is_plain_json(real: tuple[Recognizer, Explainer], astronaut: FaceInput) -> None:
    told = record(real[1].explain(astronaut))

    assert json.loads(json.dumps(told)) == told
    assert np.array(told["attention"]).shape == (6, 6)
    assert np.array(told["multi_scale"]["evidence"]).shape == (10, 10)
