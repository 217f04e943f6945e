"""Packing: a run's best weights as the small, calibrated file that is shipped."""

from dataclasses import dataclass, replace
from pathlib import Path

from manet.backends.factory import load_backend
from manet.errors import CheckpointError
from manet.weights.checkpoint import load_model, save_weights
from manet.weights.registry import described_by
from training.data.datasets import load
from training.eval import evaluate
from training.eval.temperature import fit_temperature
from training.run_dir import RunFolder, weights_header


@dataclass(frozen=True, slots=True)
class Packed:
    """What the file became known by: its SHA-256 and the temperature in it."""

    sha256: str
    temperature: float


def pack_run(folder: RunFolder, out: Path, provenance: str) -> Packed:
    """Write the weights of a run's best epoch in int8 storage, with the temperature that suits that very file.

    The temperature is fitted on the run's validation images, through the stored file and the engine that serves it.

    Raises:
        DatasetError: if the run's validation images are not where they were.
        CheckpointError: if the run has no usable weights.
    """
    recipe, source = folder.recipe(), Path(folder.facts()["data"])
    data = load(recipe.dataset, source, recipe.judged_on)
    model = load_model(folder.weights("best"), num_classes=len(data.classes), wiring=recipe.wiring)
    header = weights_header(recipe, data.classes, provenance)
    if header is None:
        raise CheckpointError(f"{folder.path}: weights that tell people apart are not packed; begin a run from them")
    header = replace(header, storage="int8")
    save_weights(model, out, header)
    weights = described_by(out)
    backend = load_backend(weights)
    temperature = fit_temperature(evaluate.run(data, weights.preprocessing, backend.infer), data.labels)
    backend.close()
    use = header.use and replace(header.use, temperature=round(temperature, 4))
    return Packed(save_weights(model, out, replace(header, use=use)), round(temperature, 4))
