"""Programs: the servers that are compared, each with how it is started and asked."""

import json
from pathlib import Path

from bench.server import PORT, Program
from manet.cpus import available_cpus

PEERS = ("plain_fastapi", "litserve", "mosec")
"""With our backend inside; with PyTorch also ``tuned_fastapi``."""

MOSEC_FLAGS = ("--timeout", "60000")
"""Milliseconds; mosec's own 3 seconds would turn its saturation into errors, where the others answer late."""


def ours(weights: str, *, faces: str = "whole", name: str = "ours", **settings: str) -> Program:
    """Return our service as users run it.

    Args:
        weights: id or file.
        faces: ``whole`` or ``detect``.
        name: shown in results.
        settings: further settings of the service.
    """
    return Program(
        name=name,
        command=("-m", "service"),
        path=f"/predict?faces={faces}",
        ready="/health/ready",
        environment=_settings(weights, settings),
    )


def hosted(weights: str, report: Path, *, seconds: float = 3, null: bool = False) -> Program:
    """Return our service with the bare loop beside it (``bench.hosted``)."""
    flags = ("--null",) if null else ()
    return Program(
        name="null" if null else "hosted",
        command=("-m", "bench.hosted", "--report", str(report), "--seconds", str(seconds), *flags),
        path="/predict?faces=whole",
        ready="/health/ready",
        environment=_settings(weights, {}),
    )


def peer(kind: str, engine: str, weights: str) -> Program:
    """Return one of ``bench/peers``.

    Args:
        kind: one of ``PEERS``; ``tuned_fastapi``, which runs as many forward passes side by side as there are CPUs, a
            thread each, where plain FastAPI leaves that to chance; or ``one_by_one``, likewise tuned.
        engine: ``torch`` for PyTorch float32, ``ours`` for our backend, which takes one batch at a time.
        weights: id or file.
    """
    module = {"tuned_fastapi": "plain_fastapi"}.get(kind, kind)
    tuned = {"plain_fastapi": 0, "tuned_fastapi": available_cpus(), "one_by_one": available_cpus()}
    passes = 1 if engine == "ours" else tuned.get(kind, 1)
    settings = {"engine": engine, "weights": weights, "passes": passes}
    raw = kind == "mosec"
    return Program(
        name=f"{kind}, {engine}",
        command=("-m", f"bench.peers.{module}_peer", "--port", PORT, *(MOSEC_FLAGS if raw else ())),
        path="/inference" if raw else "/predict",
        form_field=None if raw else "image",
        ready="/openapi/metadata.json" if raw else "/health",
        environment={"BENCH_PEER": json.dumps(settings)},
    )


def _settings(weights: str, further: dict[str, str]) -> dict[str, str]:
    chosen = {"weights": weights, "port": PORT, **further}
    return {f"MANET_{name.upper()}": value for name, value in chosen.items()}
