"""Network: the CUDA backend by itself, its answers and its speed."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from bench.bare import bare, noise
from bench.gpu.setting import PRECISIONS, Row, Setting
from manet.backends.base import Logits
from manet.backends.factory import load_backend
from manet.backends.selection import Precision
from manet.backends.torch_cuda import CudaBackend
from manet.nn.classifier import FusedClassifier, load_classifier
from manet.weights.registry import get
from testing.cuda import cuda_backend_on_cpu
from testing.golden import golden_logits, views

ALLOWED: Mapping[Precision, float] = {"float32": 1e-3, "bf16": 0.02, "float16": 0.01}
"""How far a logit may be off, as a share of the largest. float32 on a CUDA device multiplies in TF32."""

NO_NUMBER = 1e9
"""How far off an answer is that is no number; JSON has none for it."""


def correct(setting: Setting) -> Iterator[Row]:
    """Yield, for each number format, how far answers are off the golden ones and float32 on the CPU.

    Batches of random sizes are answered one after another: a buffer that is used again too early would show in them.
    """
    weights, scale = get("ferplus"), setting.scale
    images = noise(scale.noise, weights.preprocessing.input_size)
    reference = load_backend(weights, backend="torch", precision="float32", device="cpu", threads=scale.threads)
    exact = reference.infer(images)
    seen, golden = views(), golden_logits()
    classifier = load_classifier(weights, None)
    for precision in PRECISIONS:
        backend = _backend(classifier, setting.device, precision)
        backend.warmup([len(images)])
        found = backend.infer(seen)
        random, off = np.random.default_rng(1), []
        for _ in range(scale.batches):
            drawn = random.permutation(len(images))[: random.integers(1, len(images) + 1)]
            off.append(share_off(backend.infer(images[drawn]), exact[drawn]))
        with ThreadPoolExecutor(1) as thread:  # the service runs it in a thread of its own
            elsewhere = thread.submit(backend.infer, images).result()
        held = _memory_mib(setting)
        backend.close()
        row = {
            "golden_off": share_off(found, golden),
            "random_off": max(off),
            "other_thread_off": share_off(elsewhere, exact),
            "same_expressions": bool((found.argmax(1) == golden.argmax(1)).all()),
        }
        right = row["same_expressions"] and all(row[name] <= ALLOWED[precision] for name in row if name.endswith("off"))
        memory = {"memory_mib": held, "memory_closed_mib": _memory_mib(setting)}
        yield {"what": "answers", "precision": precision, **row, "allowed": ALLOWED[precision], **memory, "ok": right}


def engines(setting: Setting) -> Iterator[Row]:
    """Yield images a second, from memory to memory, for each input size and number format.

    At another input size than their own the weights answer nonsense, at the same cost.
    """
    classifier, scale = load_classifier(get("ferplus"), None), setting.scale
    for side in scale.sides:
        spec = replace(classifier.spec, input_size=side)
        resized = FusedClassifier(classifier.network, spec, classifier.fusion_weight)
        for precision in PRECISIONS:
            began = time.perf_counter()
            backend = _backend(resized, setting.device, precision)
            backend.warmup([max(scale.sizes)])
            ready = round(time.perf_counter() - began, 2)
            sizes = bare(backend.infer, side, scale.seconds, scale.sizes)
            row = {"side": side, "precision": precision, "ready_seconds": ready, "memory_mib": _memory_mib(setting)}
            yield {"what": "engine", **row, "sizes": sizes}
            backend.close()


def share_off(found: Logits, wanted: Logits) -> float:
    """Return the largest difference as a share of the largest wanted logit; ``NO_NUMBER`` where one is not finite."""
    share = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    return round(share, 8) if np.isfinite(share) else NO_NUMBER


def _backend(classifier: FusedClassifier, device: str, precision: Precision) -> CudaBackend:
    """Return the CUDA backend, or on a CPU the same without graphs."""
    if device == "cpu":
        return cuda_backend_on_cpu(classifier, precision)
    return CudaBackend(classifier, torch.device("cuda"), precision, "requested")


def _memory_mib(setting: Setting) -> int | None:
    return torch.cuda.memory_allocated() >> 20 if setting.device == "cuda" else None
