"""``manet-serve``: the service as a process."""

import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic_settings import CliApp

from manet.errors import ManetError
from manet.recognizer import Recognizer
from service.app import create_app
from service.clock import SystemClock
from service.cpus import available_cpus
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
        timeout_graceful_shutdown=settings.drain,
        server_header=False,
    )
    return Server(config)


def main() -> None:
    """Run until SIGTERM or SIGINT; what keeps the service from starting is one red line and exit status 2."""
    settings = CliApp.run(Settings, cli_args=sys.argv[1:])
    try:
        recognizer = Recognizer.from_weights(
            settings.weights,
            store=settings.weights_dir,
            device=settings.device,
            threads=settings.threads or available_cpus(),
        )
    except (ManetError, ValueError, OSError) as error:
        sys.stderr.write(f"manet-serve: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from None
    serving = server(create_app(settings, recognizer, SystemClock()), settings)
    serving.run()
    if not serving.started:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
