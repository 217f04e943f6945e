"""Packing: a run's best weights as one small file in int8 storage, calibrated for release."""

from dataclasses import dataclass, replace
from pathlib import Path

from manet.backends.factory import load_backend
from manet.errors import CheckpointError
from manet.weights.checkpoint import load_model, save_weights
from manet.weights.registry import described_by
from training.data.datasets import load
from training.eval.evaluate import predict
from training.eval.temperature import fit_temperature
from training.run_dir import RunDir, weights_header


@dataclass(frozen=True, slots=True)
class Packed:
    """The SHA-256 of a packed file, and the temperature in it."""

    sha256: str
    temperature: float


def pack_run(folder: RunDir, out: Path, provenance: str) -> Packed:
    """Write the weights of a run's best epoch in int8 storage, with a temperature fitted for that file.

    The temperature is fitted on the run's ``eval_split``, with the stored file and the backend that serves it.

    Raises:
        DatasetError: if the images of ``eval_split`` are missing.
        CheckpointError: if the run has no usable weights.
    """
    recipe, source = folder.recipe(), Path(folder.facts()["data"])
    data = load(recipe.dataset, source, recipe.eval_split)
    model = load_model(folder.weights("best"), num_classes=len(data.classes), wiring=recipe.wiring)
    header = weights_header(recipe, data.classes, provenance)
    if header is None:
        raise CheckpointError(
            f"{folder.path}: weights of an identity stage are not packed; use them as initial weights of a run"
        )
    header = replace(header, storage="int8")
    save_weights(model, out, header)
    weights = described_by(out)
    backend = load_backend(weights)
    temperature = fit_temperature(predict(data, weights.preprocessing, backend.infer), data.labels)
    backend.close()
    use = header.use and replace(header.use, temperature=round(temperature, 4))
    return Packed(save_weights(model, out, replace(header, use=use)), round(temperature, 4))
