"""Rows that compare the service with other servers of the same weights, each started in its turn."""

import statistics
from collections.abc import Sequence
from typing import Any

from bench import images, programs, sizes
from bench.server import Program, Server, started
from bench.summary import ratio, raw
from bench.workbench import CLIENTS, FORCED, Bench

PHOTOGRAPH_CLIENTS = 16

_SHARES = (0.25, 0.5, 0.75, 0.9, 1.1, 1.5, 2.0)
"""Offered load in the curves, as shares of what a server answers when it is saturated."""


def crops(bench: Bench) -> dict[str, Any]:
    """Saturated throughput on crops beside plain FastAPI, LitServe and mosec."""
    servers = {program.name: _saturated(bench, program, images.crops(), 1, CLIENTS) for program in _servers(bench)}
    again = _saturated(bench, _ours(bench), images.crops(), 1, CLIENTS)
    ours = statistics.mean([servers["ours"]["answered"], again["answered"]])
    ratios = {name: ratio(ours, found["answered"]) for name, found in servers.items() if name != "ours"}
    return {"ours_over": ratios, "ours_answered": round(ours, 2), "servers": {**servers, "ours, again": again}}


def photographs(bench: Bench) -> dict[str, Any]:
    """Requests a second on photographs with four faces beside DeepFace-style work, one face at a time."""
    uploads, faces = images.photographs(), images.PHOTOGRAPH_FACES
    own = bench.weights(sizes.own_size())
    ours = programs.ours(sizes.DEFAULT, faces="detect")
    programs_by_name = {
        "one by one, torch at 224": programs.peer("one_by_one", "torch", bench.weights(FORCED)),
        "one by one, torch at own size": programs.peer("one_by_one", "torch", own),
        "ours, again": ours,
    }
    servers = {"ours": _saturated(bench, ours, uploads, faces, PHOTOGRAPH_CLIENTS)}
    for name, program in programs_by_name.items():
        servers[name] = _saturated(bench, program, uploads, faces, PHOTOGRAPH_CLIENTS)
    mean = statistics.mean([servers["ours"]["answered"], servers["ours, again"]["answered"]])
    ratios = {name: ratio(mean, found["answered"]) for name, found in servers.items() if not name.startswith("ours")}
    return {"ours_over": ratios, "ours_answered": round(mean, 2), "faces": faces, "servers": servers}


def curves(bench: Bench) -> dict[str, Any]:
    """Throughput and latency against offered load on crops, ours and the others'."""
    uploads = images.crops()
    found = {}
    for program in _servers(bench):
        with started(program, bench.log(program.name)) as server:
            _check(server, uploads[0], 1)
            capacity = bench.saturated(server, uploads)["answered"]
            points = []
            for share in _SHARES:
                server.rest()
                samples, point = bench.load(server, uploads, rate=max(0.5, share * capacity), answer_timeout=10)
                points.append({"share": share, **point, "samples": raw(samples, most=1000)})
            found[program.name] = {"saturated": capacity, "points": points}
    return {"servers": found}


def _ours(bench: Bench) -> Program:
    return programs.ours(sizes.DEFAULT)


def _servers(bench: Bench) -> Sequence[Program]:
    """Return ours and all peers on crops; what is named no size runs at the weights' own."""
    own, forced = bench.weights(sizes.own_size()), bench.weights(FORCED)
    return (
        _ours(bench),
        programs.ours(forced, name="ours at 224"),
        *(programs.peer(kind, "torch", forced) for kind in (*programs.PEERS, "tuned_fastapi")),
        *(programs.peer(kind, "ours", own) for kind in programs.PEERS),
    )


def _saturated(bench: Bench, program: Program, uploads: list[bytes], faces: int, clients: int) -> dict[str, Any]:
    with started(program, bench.log(program.name)) as server:
        answer = _check(server, uploads[0], faces)
        return {"first_face": answer, **bench.saturated(server, uploads, clients)}


def _check(server: Server, image: bytes, faces: int) -> dict[str, Any]:
    """Return the first face that a server answers an image with, after making sure that it does the whole work."""
    found = server.ask(image)["faces"]
    if len(found) != faces:
        raise RuntimeError(f"{server.program.name} answered {len(found)} faces instead of {faces}")
    first = found[0]
    if abs(sum(first["probabilities"].values()) - 1) > 0.01:
        raise RuntimeError(f"{server.program.name} answered probabilities that do not sum to 1")
    return {"expression": first["expression"], "confidence": round(first["confidence"], 3)}
