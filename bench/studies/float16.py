"""float16: what the number format that CUDA devices serve in costs in accuracy, measured on a CPU.

    python -m bench.studies.float16 --data DIR --out bench/results/float16.json

FER+ Valid through the network of ``CudaBackend``: BatchNorm folded, weights and activations in float16, channels last.
On a CPU PyTorch adds up a convolution of float16 in float32 and rounds the sum once, as CUDA devices do, in another
order. Beside it the network in float32, with BatchNorm, as it is on a CPU.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import heading
from manet.backends.base import Logits
from manet.backends.torch_cpu import TorchBackend
from manet.nn.classifier import load_classifier
from manet.weights.registry import get
from testing.cuda import cuda_backend_on_cpu
from training.data.datasets import ferplus
from training.data.datasets.expression_set import ExpressionSet
from training.eval.evaluate import predict, score


def compared(valid: ExpressionSet, float32: Logits, float16: Logits) -> dict[str, Any]:
    """Return both accuracies, and how the answers differ.

    Args:
        valid: N images.
        float32: their logits (N, classes); likewise ``float16``.
        float16: the logits that are compared.
    """
    rows = {"float32": score(valid, float32), "float16": score(valid, float16)}
    return {
        "n": len(valid),
        "accuracy": {name: round(row.accuracy, 3) for name, row in rows.items()},
        "macro_recall": {name: round(row.macro_recall, 3) for name, row in rows.items()},
        "cross_entropy": {name: round(row.cross_entropy, 5) for name, row in rows.items()},
        "other_answers": int((float32.argmax(1) != float16.argmax(1)).sum()),
        "largest_logit_difference": round(float(np.abs(float32 - float16).max()), 5),
        "largest_logit": round(float(np.abs(float32).max()), 3),
    }


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ferplus/")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    head = heading()
    weights, valid = get("ferplus"), ferplus.load(asked.data, "valid")
    classifier = load_classifier(weights, None)
    float32, float16 = (
        predict(valid, weights.preprocessing, backend.infer)
        for backend in (TorchBackend(classifier), cuda_backend_on_cpu(classifier, "float16"))
    )
    result = {
        "what": "accuracy of float16, as CUDA devices serve in it, beside float32; computed on a CPU",
        **head,
        "weights": {"id": weights.id, "sha256": weights.sha256},
        "dataset": valid.name,
        "split": valid.split,
        "protocol": valid.protocol,
        **compared(valid, float32, float16),
    }
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
