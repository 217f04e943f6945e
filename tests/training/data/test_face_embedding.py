"""The face embedding: read from face-api's arrays, checked by their shapes; another file is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from testing.data_sets import draw_face_api, draw_ferplus
from training.cli import app
from training.data.datasets import load
from training.data.face_clusters import TOP_SHARE, find_clusters
from training.data.face_embedding import ARRAYS, DIMENSIONS, MANIFEST, EmbeddingError, FaceEmbedding

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network of random numbers, as face-api writes it."""
    return draw_face_api(tmp_path_factory.mktemp("face-api"))


def test_an_image_and_its_mirror_image_have_one_embedding(arrays: Path) -> None:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 48, 48)).astype(np.uint8))
    embedding = FaceEmbedding(arrays, CPU)

    found = embedding.embed(images)

    assert found.shape == (2, DIMENSIONS)
    assert torch.allclose(found, embedding.embed(images.flip(2)), rtol=1e-3, atol=1e-3 * float(found.abs().max()))
    assert not torch.allclose(found[0], found[1], rtol=1e-2)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / ARRAYS).unlink(), "lacks"),
        (lambda folder: (folder / ARRAYS).write_bytes(b"short"), "do not match"),
        (lambda folder: (folder / MANIFEST).write_text("no JSON"), "do not match"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "another network"),
    ],
)
def test_a_folder_with_other_files_is_refused_in_one_line(
    arrays: Path, tmp_path: Path, break_it: Any, message: str
) -> None:
    for name in (ARRAYS, MANIFEST):
        (tmp_path / name).write_bytes((arrays / name).read_bytes())
    break_it(tmp_path)

    with pytest.raises(EmbeddingError, match=message):
        FaceEmbedding(tmp_path, CPU).embed(torch.zeros(1, 48, 48, dtype=torch.uint8))


def test_clusters_separate_groups_with_the_given_softness() -> None:
    random = torch.Generator().manual_seed(0)
    groups = torch.eye(8).repeat_interleave(20, dim=0)  # (160, 8), eight corners
    embeddings = groups + 0.1 * torch.randn(160, 8, generator=random)

    clusters = find_clusters(embeddings, 24, seed=3)
    shares = clusters.shares(embeddings)

    assert torch.allclose(shares.sum(dim=1), torch.ones(160), atol=1e-5)
    assert shares.amax(dim=1).mean() == pytest.approx(TOP_SHARE, abs=0.02)
    corners = clusters.centres.argmax(dim=1)[shares.argmax(dim=1)]
    assert (corners == groups.argmax(dim=1)).all()


def test_the_command_writes_a_set_that_an_identity_stage_reads(arrays: Path, tmp_path: Path) -> None:
    happy, nothing = [0, 8, 0, 0, 0, 0, 0, 0, 0, 0], [8, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    rows = [("Training", f"t{i}.png", (happy, nothing)[i % 2]) for i in range(6)]
    data = draw_ferplus(tmp_path / "data", [*rows, ("PublicTest", "v.png", happy)])
    out = tmp_path / "identities.npz"
    arguments = ["cluster-faces", "ferplus", "--data", str(data), "--embedding", str(arrays), "--out", str(out)]

    result = CliRunner().invoke(app, [*arguments, "--clusters", "3"])

    assert result.exit_code == 0, result.output
    train, valid = load("identities", out, "train"), load("identities", out, "valid")
    assert (len(train), len(valid), len(train.classes)) == (6, 1, 3)
    assert np.allclose(train.targets.sum(axis=1), 1, atol=1e-5)
    few = CliRunner().invoke(app, arguments)
    assert "6 training images are too few for 512 clusters" in str(few.exception)
