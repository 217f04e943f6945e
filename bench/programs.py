"""Programs: the servers that are compared, each with how it is started and asked."""

import json
from pathlib import Path

from bench.server import PORT, Program

PEERS = ("plain_fastapi", "litserve", "mosec")

MOSEC_FLAGS = ("--timeout", "60000")
"""Milliseconds; mosec's own 3 seconds would turn its saturation into errors, where the others answer late."""


def ours(weights: str, cache: Path, *, faces: str = "whole", name: str = "ours", **settings: str) -> Program:
    """Return our service as users run it.

    Args:
        weights: id or file.
        cache: folder of exported networks.
        faces: ``whole`` or ``detect``.
        name: shown in results.
        settings: further settings of the service.
    """
    return Program(
        name=name,
        command=("-m", "service"),
        path=f"/predict?faces={faces}",
        ready="/health/ready",
        environment=_settings(weights, cache, settings),
    )


def hosted(weights: str, cache: Path, report: Path, *, seconds: float = 3, null: bool = False) -> Program:
    """Return our service with the bare loop beside it (``bench.hosted``)."""
    flags = ("--null",) if null else ()
    return Program(
        name="null" if null else "hosted",
        command=("-m", "bench.hosted", "--report", str(report), "--seconds", str(seconds), *flags),
        path="/predict?faces=whole",
        ready="/health/ready",
        environment=_settings(weights, cache, {}),
    )


def peer(kind: str, engine: str, weights: str, cache: Path) -> Program:
    """Return one of ``bench/peers``.

    Args:
        kind: one of ``PEERS``, or ``one_by_one``.
        engine: ``torch`` for PyTorch float32, ``ours`` for our backend.
        weights: id or file.
        cache: folder of exported networks.
    """
    settings = json.dumps({"engine": engine, "weights": weights, "cache": str(cache)})
    raw = kind == "mosec"
    return Program(
        name=f"{kind}, {engine}",
        command=("-m", f"bench.peers.{kind}_peer", "--port", PORT, *(MOSEC_FLAGS if raw else ())),
        path="/inference" if raw else "/predict",
        form_field=None if raw else "image",
        ready="/openapi/metadata.json" if raw else "/health",
        environment={"BENCH_PEER": settings},
    )


def _settings(weights: str, cache: Path, further: dict[str, str]) -> dict[str, str]:
    chosen = {"weights": weights, "cache_dir": str(cache), "port": PORT, **further}
    return {f"MANET_{name.upper()}": value for name, value in chosen.items()}
