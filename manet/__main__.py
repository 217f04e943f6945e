"""The command line ``manet``."""

import typer

from manet.cli import explain, predict, weights
from manet.errors import ManetError

app = typer.Typer(
    name="manet",
    help="Apparent facial expressions in images, by MA-Net.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(predict.predict)
app.command()(explain.explain)
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Run the command line; what can go wrong with files and weights is one red line and exit status 2."""
    try:
        app()
    except (ManetError, OSError) as error:
        typer.secho(" ".join(str(error).split()), fg="red", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
