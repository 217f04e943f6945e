"""What several tests need: checkpoints as the authors' training script writes them."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Keep what tools keep out of the user's folders, for this process and those it starts.

    Before tests are collected: Matplotlib, for one, looks for its folders when it is imported.
    """
    # Tests that import OpenVINO before our own modules do would have it report its use.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    folder = tempfile.TemporaryDirectory(prefix="manet-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name, kept in {
        "XDG_CACHE_HOME": "cache",
        "XDG_CONFIG_HOME": "config",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",  # else below the folder for temporary files
        "PET_LOG_DIR": "torchrun",  # likewise
        "npm_config_cache": "npm",  # else ~/.npm
    }.items():
        patch.setenv(name, str(Path(folder.name) / kept))


# Runs as __main__, as the authors' script did, so that its pickles name __main__.RecorderMeter. Every tensor is one
# number stretched to its shape: entry k of the state dict is full of k, and the files stay small.
_WRITE_CHECKPOINTS = """
import sys
from pathlib import Path

import numpy as np
import torch

from manet.nn.model import MANet


class RecorderMeter:
    def __init__(self, epochs):
        self.total_epoch = epochs
        self.epoch_losses = np.zeros((epochs, 2), dtype=np.float32)
        self.best = np.float64(88.4)


def state(classes, prefix):
    with torch.device("meta"):
        blank = MANet(classes).state_dict()
    return {
        prefix + key: torch.full((1,), k).to(entry.dtype).expand(entry.shape) if entry.ndim else torch.tensor(k)
        for k, (key, entry) in enumerate(blank.items())
    }


def checkpoint(classes, prefix):
    return {
        "epoch": 30,
        "arch": "manet",
        "state_dict": state(classes, prefix),
        "best_acc": torch.tensor(88.4),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]},
        "recorder": RecorderMeter(100),
    }


folder = Path(sys.argv[1])
torch.save(checkpoint(7, "module."), folder / "seven.pth")
torch.save(checkpoint(7, "_orig_mod.module."), folder / "old_format.pth", _use_new_zipfile_serialization=False)
# NumPy called this module so in 2021.
old = folder / "old_format.pth"
content = old.read_bytes()
assert b"numpy._core.multiarray" in content
old.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
torch.save(checkpoint(12666, "module."), folder / "identities.pth")
"""


@pytest.fixture(scope="session")
def authors_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Pickles as the authors' script writes them: ``seven``, ``old_format`` (2021's) and ``identities`` (12,666)."""
    folder = tmp_path_factory.mktemp("authors")
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", _WRITE_CHECKPOINTS, str(folder)], check=True, cwd=root)
    return MappingProxyType({path.stem: path for path in folder.glob("*.pth")})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store of weights, in the place of the user's own."""
    folder = tmp_path / "store"
    monkeypatch.setenv("MANET_WEIGHTS_DIR", str(folder))
    return folder
