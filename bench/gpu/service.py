"""Service: requests a second of the whole service, in one process and in several front ends."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from bench import images, sizes
from bench.gpu.setting import Row, Setting
from bench.load import Samples
from bench.programs import ours
from bench.server import Server, finished, loading, started
from bench.summary import summary
from manet.cpus import available_cpus

_WARM_SHARE = 0.25
"""Of a load's seconds; for so long requests are sent before it and not counted."""

_ANSWER_SECONDS = 15.0
_CORES_A_GENERATOR = 8
"""One load generator for so many cores: its own core would bound what is measured."""


def served(setting: Setting) -> Iterator[Row]:
    """Yield what clients saw of crops and of photographs, for each way to run the service."""
    several = max(2, available_cpus() - 1)
    yield from _way(setting, "one process", 1)
    for batch in setting.scale.served_batches:
        yield from _way(setting, f"{several} front ends, batches of {batch}", several, max_batch_size=str(batch))


def _way(setting: Setting, name: str, front_ends: int, **settings: str) -> Iterator[Row]:
    clients = front_ends * setting.scale.clients
    if setting.scale.threads is not None:
        settings["threads"] = str(setting.scale.threads)
    program = ours(
        sizes.DEFAULT,
        name=name,
        device=setting.device,
        backend="torch",
        explain="false",
        front_ends=str(front_ends),
        max_inflight_images=str(2 * clients),
        max_queued_faces=str(8 * clients),
        **settings,
    )
    log = setting.folder / f"{name}.log"
    try:
        with started(program, log) as server:
            for faces, uploads in (("whole", images.crops()), ("detect", images.photographs())):
                asked = Server(replace(program, path=f"/predict?faces={faces}"), server.process, server.port)
                _send(asked, uploads, setting, clients, _WARM_SHARE * setting.scale.load_seconds)
                before = server.cpu_seconds()
                found = summary(joined(_send(asked, uploads, setting, clients, setting.scale.load_seconds)))
                spent = {
                    "server_cpu_seconds": round(server.cpu_seconds() - before, 2),
                    "server_resident_mb": round(server.resident_mb(), 1),
                }
                way = {"what": "served", "way": name, "faces": faces, "clients": clients}
                yield {**way, **found, **spent, "ok": found["statuses"].get("200", 0) > 0}
    except RuntimeError as error:  # the other ways are measured all the same
        yield {"what": "served", "way": name, "error": str(error)[-1000:], "ok": False}


def _send(
    server: Server, uploads: Sequence[bytes], setting: Setting, clients: int, seconds: float
) -> Sequence[Samples]:
    """Return the samples of each load generator; they share the clients."""
    count = max(1, available_cpus() // _CORES_A_GENERATOR)
    with ExitStack() as running:
        generators = []
        for number in range(count):
            folder = setting.folder / f"generator_{number}"
            folder.mkdir(exist_ok=True)
            load = loading(
                server, uploads, folder, seconds=seconds, clients=clients // count, answer_timeout=_ANSWER_SECONDS
            )
            generators.append(running.enter_context(load))
        return [finished(generator) for generator in generators]


def joined(parts: Sequence[Samples]) -> Samples:
    """Return the samples of several generators that sent side by side as those of one; each has its own time zero."""
    return Samples(
        intended=[time for part in parts for time in part.intended],
        sent=[time for part in parts for time in part.sent],
        answered=[time for part in parts for time in part.answered],
        status=[status for part in parts for status in part.status],
        seconds=max(part.seconds for part in parts),
        cpu_seconds=sum(part.cpu_seconds for part in parts),
    )
