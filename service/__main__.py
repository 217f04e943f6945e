"""``manet-serve``: the service as a process."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import CliApp

from manet.errors import ManetError
from service.runtime import tune_memory, tune_threads
from service.settings import Settings


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"manet-serve: {' '.join(reason.split())}\n")
    raise SystemExit(2) from None


def main() -> None:
    """Run until SIGTERM or SIGINT; what keeps the service from starting is one red line and exit status 2."""
    try:
        settings = CliApp.run(Settings, cli_args=sys.argv[1:])
    except ValidationError as error:
        _refuse("; ".join(": ".join([*map(str, wrong["loc"]), wrong["msg"]]) for wrong in error.errors()))
    (_serve if settings.front_end_count == 1 else _supervise)(settings)


def _supervise(settings: Settings) -> None:
    """Serve with several front ends."""
    from service.processes.supervisor import loaders, supervise  # noqa: PLC0415 - a single process has nothing of this

    try:
        supervise(settings, loaders(settings))
    except (ManetError, ValueError, OSError) as error:
        _refuse(str(error))


def _serve(settings: Settings) -> None:
    """Serve in this process."""
    # Not above: the processes of several front ends import this module, and most need none of these.
    from service.inference.engine import load_network, load_recognizer  # noqa: PLC0415
    from service.observability.log_filters import silence_pillow_warnings  # noqa: PLC0415

    tune_threads()
    silence_pillow_warnings()
    try:
        with ThreadPoolExecutor(1) as pool:
            recognizer = pool.submit(load_recognizer, settings)
            # Meanwhile: the web framework takes as long to import as the network to compile.
            from service.app import create_app  # noqa: PLC0415
            from service.clock import SystemClock  # noqa: PLC0415
            from service.server import run, server  # noqa: PLC0415
        app = create_app(settings, recognizer.result(), SystemClock(), reload=partial(load_network, settings))
    except (ManetError, ValueError, OSError) as error:
        _refuse(str(error))
    tune_memory()
    run(server(app, settings))


if __name__ == "__main__":
    main()
