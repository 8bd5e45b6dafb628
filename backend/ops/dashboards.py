"""`commandcenter dashboards`: runs the package that builds them, as a process of its own.

That package imports the application's metrics, and nothing here may.
"""

import subprocess
from importlib.util import find_spec
from typing import Final

import typer

from ops.stack.layout import checkout
from ops.stack.programs import python

cli: Final = typer.Typer(help="Grafana's dashboards and their recording rules, as code.", no_args_is_help=True)


@cli.command()
def build() -> None:
    """Write monitoring/grafana/dashboards/*.json and monitoring/recording.yml, where they differ."""
    raise typer.Exit(_run("build"))


@cli.command()
def check() -> None:
    """Tell which of these files are not what the code makes; exit with 1 then."""
    raise typer.Exit(_run("check"))


def _run(command: str) -> int:
    if find_spec("grafana_foundation_sdk") is None:
        typer.echo(
            "✗ This needs the packages for development, which are not installed here: run `make setup`.", err=True
        )
        return 2
    return subprocess.run(
        [str(python()), "-m", "dashboards", command], cwd=checkout() / "backend", check=False
    ).returncode
