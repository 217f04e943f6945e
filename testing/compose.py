"""Compose on a real engine: one project, from its start to the removal of its volumes."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from testing.processes import free_port

ROOT = Path(__file__).parents[1]

PUBLIC = ("--file", "docker-compose.yml", "--file", "docker/compose.public.yml")
"""Options that name the files of a service for other machines."""


def missing() -> str | None:
    """Return why Compose cannot be tried here, or None."""
    if shutil.which("docker") is None:
        return "there is no docker here"
    for command in (["docker", "version"], ["docker", "compose", "version"], ["docker", "buildx", "version"]):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return f"`{' '.join(command)}` fails here: no engine answers, or it lacks the plugin"
    return None


def inspect(*names: str) -> Mapping[str, Any]:
    """Return what the engine knows of an image or a container."""
    [found] = json.loads(subprocess.run(["docker", "inspect", *names], capture_output=True, check=True).stdout)
    facts: Mapping[str, Any] = found
    return facts


class Project:
    """A project of a name of its own, on a free port.

    Args:
        files: options that name its files; by default Compose takes ``docker-compose.yml``.
        variables: of its environment.
    """

    def __init__(self, *files: str, **variables: str) -> None:
        self.port = free_port()
        self._command = ("docker", "compose", *files, "--project-name", f"manet-{secrets.token_hex(4)}")
        self._environment = {**os.environ, "MANET_PUBLISHED_PORT": str(self.port), **variables}

    def __call__(self, *arguments: str) -> str:
        """Run a command of Compose's, and return what it wrote."""
        done = subprocess.run(
            [*self._command, *arguments], cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    @property
    def address(self) -> str:
        """Where the service answers."""
        return f"http://127.0.0.1:{self.port}"

    def state(self, service: str = "manet") -> Mapping[str, Any]:
        """Return what the engine knows of a service's only container."""
        return inspect(*self("ps", "--all", "--quiet", service).split())

    def inside(self, program: str, service: str = "manet") -> str:
        """Return what a program of Python's says inside a container."""
        return self("exec", "-T", service, "python", "-c", program)


@contextlib.contextmanager
def project(*files: str, **variables: str) -> Iterator[Project]:
    """Yield a project, and remove what it made in the end; see ``Project``."""
    made = Project(*files, **variables)
    try:
        yield made
    finally:
        made("--profile", "*", "down", "--volumes", "--timeout", "60")


HEALTH_CHECK = """
import resource, subprocess
for _ in range(5):
    subprocess.run(["python", "/opt/healthcheck.py"], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print((used.ru_utime + used.ru_stime) / 5)
"""
"""Prints the CPU seconds of one health check, inside."""
