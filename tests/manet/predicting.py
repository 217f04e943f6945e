"""``manet predict``, run within the test's own process."""

from typer.testing import CliRunner, Result

from manet.__main__ import app


def run(*arguments: object) -> Result:
    """Return what came of it; the terminal is wide enough for any line."""
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, ["predict", *map(str, arguments)])
