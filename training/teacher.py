"""Teachers: finished runs whose predictions become part of another run's targets (distillation, Hinton et al. 2015)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from manet.nn.classifier import Normalise
from manet.nn.model import fuse
from manet.vision.preprocess import Preprocessing
from manet.weights.checkpoint import load_model
from manet.weights.registry import described_by
from training.data.datasets.expression_set import DatasetError, ExpressionSet
from training.data.transforms import Reader, Samples, in_order

SCALES = (0.8, 1.0, 1.2)
"""Input sizes at which a teacher predicts, relative to its own."""


@torch.inference_mode()
def teacher_probabilities(teachers: Sequence[Path], data: ExpressionSet, device: torch.device) -> torch.Tensor:
    """Return the mean of the teachers' probabilities over three scales and a flip, (N, classes).

    Raises:
        CheckpointError: if a file has no header that says how its weights are used.
        DatasetError: if its classes are not those of the data set.
    """
    total = torch.zeros(len(data), len(data.classes))
    for file in teachers:
        weights = described_by(file)
        if weights.classes != data.classes:
            raise DatasetError(f"{file} has other classes than {data.name}")
        network = load_model(file, num_classes=len(weights.classes), wiring=weights.wiring).to(device).eval()
        network = network.to(memory_format=torch.channels_last)
        normalise = Normalise(weights.preprocessing).to(device)
        for scale in SCALES:
            spec = replace(weights.preprocessing, input_size=_multiple_of_8(weights.preprocessing, scale))
            reader = Reader(Samples(data, spec), device=device)
            found = []
            for inputs, _ in reader.read(in_order(len(data))):
                images = normalise(inputs.to(device))
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    both = (fuse(network(view), weights.fusion_weight) for view in (images, images.flip(3)))
                    found.append(sum(logits.float().softmax(dim=1) for logits in both).cpu() / 2)  # type: ignore[union-attr]
            total += torch.cat(found) / len(SCALES)
    return total / len(teachers)


def with_teacher_targets(
    teachers: Sequence[Path], data: ExpressionSet, share: float, device: torch.device
) -> ExpressionSet:
    """Return a data set with targets mixed from the teachers' predictions, by a share 0..1, and its own targets."""
    mixed = share * teacher_probabilities(teachers, data, device).numpy() + (1 - share) * data.targets
    protocol = f"{data.protocol}, {share:.0%} of each target from {len(teachers)} teachers"
    return replace(data, targets=mixed.astype("float32"), protocol=protocol)


def _multiple_of_8(spec: Preprocessing, scale: float) -> int:
    return round(spec.input_size * scale / 8) * 8
