"""``manet-serve``: the service as a process."""

import sys
from functools import partial
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import CliApp

from manet.errors import ManetError
from service.app import create_app
from service.clock import SystemClock
from service.inference.engine import load_network, load_recognizer
from service.observability.log_filters import silence_pillow_warnings
from service.server import run, server, tune_runtime
from service.settings import Settings


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"manet-serve: {' '.join(reason.split())}\n")
    raise SystemExit(2) from None


def main() -> None:
    """Run until SIGTERM or SIGINT; what keeps the service from starting is one red line and exit status 2."""
    silence_pillow_warnings()
    try:
        settings = CliApp.run(Settings, cli_args=sys.argv[1:])
    except ValidationError as error:
        _refuse("; ".join(": ".join([*map(str, wrong["loc"]), wrong["msg"]]) for wrong in error.errors()))
    try:
        app = create_app(settings, load_recognizer(settings), SystemClock(), reload=partial(load_network, settings))
    except (ManetError, ValueError, OSError) as error:
        _refuse(str(error))
    tune_runtime()
    run(server(app, settings))


if __name__ == "__main__":
    main()
