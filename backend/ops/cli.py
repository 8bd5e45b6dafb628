"""The command line: one name, one function or group each. The work is in the packages beside this file."""

from typing import Final

import typer

from ops.on_demand import on_demand

COMMANDS: Final = {
    "up": "ops.stack.commands:up",
    "down": "ops.stack.down:down",
    "status": "ops.stack.commands:status",
    "demo": "ops.trace.commands:demo",
    "trace": "ops.trace.commands:trace",
    "errors": "ops.trace.commands:errors",
    "trail-token": "ops.trace.commands:trail_token",
    "dashboards": "ops.dashboards:cli",
    "alerts": "ops.alerting.commands:cli",
    "release": "ops.release.commands:cli",
}


cli = typer.Typer(
    cls=on_demand(COMMANDS),
    name="commandcenter",
    help="Watch over a team's Git repositories, and over this system: one ID tells the whole story.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # Locals may hold secrets.
)


@cli.callback()
def _root() -> None:
    """A group, although nothing is registered with it."""


def main() -> None:
    """Run the command line."""
    cli()
