"""``manet-serve``: the service as a process."""

import sys
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import CliApp
from uvicorn.config import LOGGING_CONFIG

from manet.errors import ManetError
from service.app import create_app
from service.clock import SystemClock
from service.loading import load_recognizer
from service.settings import Settings


class Server(uvicorn.Server):
    """Uvicorn, with the two things that a stop needs: not ready from the signal on, and status 0 in the end.

    Uvicorn raises a signal that it caught once more when it is done, so that the process would seem killed by it.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: refuse what is new, finish what was let in. A second signal does not wait."""
        app = self.config.app
        if isinstance(app, FastAPI):
            app.state.parts.admission.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True


def server(app: FastAPI, settings: Settings) -> Server:
    """Return the HTTP server of an application."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        log_config=_logging(settings.log_level),
        timeout_graceful_shutdown=settings.drain,
        server_header=False,
    )
    return Server(config)


def _logging(level: str) -> dict[str, Any]:
    """Return uvicorn's logging with the service's own loggers beside it, to the same place in the same form."""
    ours = {"handlers": ["default"], "level": level.upper(), "propagate": False}
    return {**LOGGING_CONFIG, "loggers": {**LOGGING_CONFIG["loggers"], "manet": ours}}


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"manet-serve: {' '.join(reason.split())}\n")
    raise SystemExit(2) from None


def main() -> None:
    """Run until SIGTERM or SIGINT; what keeps the service from starting is one red line and exit status 2."""
    try:
        settings = CliApp.run(Settings, cli_args=sys.argv[1:])
    except ValidationError as error:
        _refuse("; ".join(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}" for wrong in error.errors()))
    try:
        recognizer = load_recognizer(settings)
    except (ManetError, ValueError, OSError) as error:
        _refuse(str(error))
    serving = server(create_app(settings, recognizer, SystemClock()), settings)
    serving.run()
    if not serving.started:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
